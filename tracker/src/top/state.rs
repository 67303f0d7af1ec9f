//! What is shown, and what a key changes of it. Nothing here draws or asks.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::{self, TableKind, UsageColumn};
use super::rates::{ProcessId, RowId, UsageRow, process_rows, vma_rows};
use super::usage::NodeUsage;

/// What an input line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputUse {
    /// Rows without the text are left out.
    Filter,
    /// The next row with the text is selected.
    Search,
}

/// What is on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopView {
    Processes,
    /// Of one process, or of all.
    Vmas(Option<ProcessId>),
    /// Everything that is counted of one row.
    Detail(RowId),
}

/// What the program does after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterKey {
    Continue,
    Quit,
}

/// All that is shown.
#[derive(Debug)]
pub(super) struct TopState {
    /// The last answer, and the one before: no answer is older than that.
    pub now: Option<NodeUsage>,
    earlier: Option<NodeUsage>,
    /// Why there was no answer since.
    pub failure: Option<String>,
    pub views: Vec<TopView>,
    pub selected: Option<RowId>,
    sort: [UsageColumn; 2],
    pub reversed: bool,
    pub filter: String,
    search: String,
    pub input: Option<InputUse>,
    pub paused: bool,
    pub help: bool,
}

impl TopState {
    pub(super) fn new() -> Self {
        Self {
            now: None,
            earlier: None,
            failure: None,
            views: vec![TopView::Processes],
            selected: None,
            sort: [UsageColumn::FaultRate; 2],
            reversed: false,
            filter: String::new(),
            search: String::new(),
            input: None,
            paused: false,
            help: false,
        }
    }

    /// Takes an answer in. While it is paused the screen stays as it is.
    pub(super) fn answer(&mut self, answer: Result<NodeUsage, String>) {
        if self.paused {
            return;
        }
        match answer {
            Ok(usage) => {
                self.earlier = self.now.replace(usage);
                self.failure = None;
            }
            Err(why) => self.failure = Some(why),
        }
    }

    pub(super) fn view(&self) -> TopView {
        self.views.last().cloned().unwrap_or(TopView::Processes)
    }

    /// The table that is shown, or lies below what is shown.
    pub(super) fn kind(&self) -> TableKind {
        let table = self
            .views
            .iter()
            .rev()
            .find(|view| !matches!(view, TopView::Detail(_)));
        match table {
            Some(TopView::Vmas(_)) => TableKind::Vmas,
            _ => TableKind::Processes,
        }
    }

    pub(super) fn sort(&self) -> UsageColumn {
        self.sort[self.kind() as usize]
    }

    /// The rows of the table, in the order in which they are shown.
    pub(super) fn rows(&self) -> Vec<UsageRow> {
        let Some(now) = &self.now else {
            return Vec::new();
        };
        let earlier = self.earlier.as_ref();
        let table = self
            .views
            .iter()
            .rev()
            .find(|view| !matches!(view, TopView::Detail(_)));
        let mut rows = match table {
            Some(TopView::Vmas(of)) => vma_rows(earlier, now, *of),
            _ => process_rows(earlier, now),
        };
        rows.retain(|row| has(row, &self.filter));
        columns::sort(&mut rows, self.sort(), self.reversed);
        rows
    }

    /// The place of the selected row; the first one if it is gone.
    pub(super) fn place(&self, rows: &[UsageRow]) -> Option<usize> {
        let place = rows
            .iter()
            .position(|row| Some(&row.id) == self.selected.as_ref());
        place.or_else(|| (!rows.is_empty()).then_some(0))
    }

    /// Does what a key asks for; `page` lines are on the screen.
    pub(super) fn key(&mut self, key: KeyEvent, page: usize) -> AfterKey {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return AfterKey::Quit;
        }
        if let Some(using) = self.input {
            self.type_in(using, key.code);
            return AfterKey::Continue;
        }
        if std::mem::take(&mut self.help) {
            return AfterKey::Continue;
        }
        match key.code {
            KeyCode::Char('q') => return AfterKey::Quit,
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => self.back(),
            KeyCode::Char('h' | '?') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('<' | ',') => self.sort_by_next(-1),
            KeyCode::Char('>' | '.') => self.sort_by_next(1),
            KeyCode::Char('f') => self.begin(InputUse::Filter),
            KeyCode::Char('/') => self.begin(InputUse::Search),
            KeyCode::Char('n') => self.find_next(),
            KeyCode::Tab => self.other_table(),
            KeyCode::Enter | KeyCode::Right => self.enter(),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-(page.max(1) as isize)),
            KeyCode::PageDown => self.move_by(page.max(1) as isize),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            _ => {}
        }
        AfterKey::Continue
    }

    fn begin(&mut self, using: InputUse) {
        self.input = Some(using);
        self.text(using).clear();
    }

    pub(super) fn typed(&self) -> Option<(InputUse, &str)> {
        self.input.map(|using| match using {
            InputUse::Filter => (using, self.filter.as_str()),
            InputUse::Search => (using, self.search.as_str()),
        })
    }

    fn text(&mut self, using: InputUse) -> &mut String {
        match using {
            InputUse::Filter => &mut self.filter,
            InputUse::Search => &mut self.search,
        }
    }

    fn type_in(&mut self, using: InputUse, code: KeyCode) {
        match code {
            KeyCode::Char(typed) => self.text(using).push(typed),
            KeyCode::Backspace => drop(self.text(using).pop()),
            KeyCode::Esc => {
                self.text(using).clear();
                self.input = None;
            }
            KeyCode::Enter => {
                self.input = None;
                if using == InputUse::Search {
                    self.find_next();
                }
            }
            _ => {}
        }
    }

    fn find_next(&mut self) {
        if self.search.is_empty() {
            return;
        }
        let rows = self.rows();
        let after = self.place(&rows).map_or(0, |place| place + 1);
        let (before, next) = rows.split_at(after.min(rows.len()));
        let found = next.iter().chain(before).find(|row| has(row, &self.search));
        if let Some(row) = found {
            self.selected = Some(row.id.clone());
        }
    }

    fn move_by(&mut self, lines: isize) {
        let rows = self.rows();
        let Some(place) = self.place(&rows) else {
            return;
        };
        let place = place.saturating_add_signed(lines).min(rows.len() - 1);
        self.selected = rows.get(place).map(|row| row.id.clone());
    }

    fn sort_by_next(&mut self, step: isize) {
        let kind = self.kind();
        let columns = kind.columns();
        let at = columns.iter().position(|column| *column == self.sort());
        let at = at
            .unwrap_or(0)
            .saturating_add_signed(step)
            .min(columns.len() - 1);
        if let Some(column) = columns.get(at) {
            self.sort[kind as usize] = *column;
        }
    }

    fn enter(&mut self) {
        let rows = self.rows();
        let Some(row) = self.place(&rows).and_then(|place| rows.get(place)) else {
            return;
        };
        let id = row.id.clone();
        match (self.view(), &id) {
            (TopView::Processes, RowId::Process(process)) => {
                let process = *process;
                self.selected = Some(id);
                self.views.push(TopView::Vmas(Some(process)));
            }
            (TopView::Vmas(_), _) => {
                self.selected = Some(id.clone());
                self.views.push(TopView::Detail(id));
            }
            _ => {}
        }
    }

    fn back(&mut self) {
        if self.views.len() > 1 {
            let left = self.views.pop();
            if let Some(TopView::Vmas(Some(process))) = left {
                self.selected = Some(RowId::Process(process));
            }
        }
    }

    fn other_table(&mut self) {
        self.views = vec![match self.kind() {
            TableKind::Processes => TopView::Vmas(None),
            TableKind::Vmas => TopView::Processes,
        }];
    }
}

/// Whether a row has the text in its pid or in one of its names; case does not matter.
fn has(row: &UsageRow, text: &str) -> bool {
    let text = text.to_lowercase();
    let words = [
        Some(&row.comm),
        row.vma.as_ref(),
        row.backing.as_ref(),
        row.name.as_ref(),
    ];
    let mut words = words.into_iter().flatten();
    row.pid.to_string().contains(&text) || words.any(|word| word.to_lowercase().contains(&text))
}
