//! Draws what is shown.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::columns::{GAP, TableKind, UsageColumn};
use super::detail::detail;
use super::state::{InputUse, TopState, TopView};
use super::usage::NodeUsage;
use crate::print::words::{count, number, printable};

const KEYS: &[(&str, &str)] = &[
    ("Up Down PgUp PgDn Home End", "select a row"),
    ("Enter", "more: its VMAs; all counts of a VMA"),
    ("Esc", "back"),
    ("Tab", "processes, or the VMAs of all of them"),
    ("< >", "sort by another column"),
    ("r", "reverse the order"),
    ("f", "only rows with a text; f Enter: all again"),
    ("/ n", "search such a row, and the next one"),
    ("p", "pause: the screen stays as it is"),
    ("q", "quit"),
];

/// How the screen looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScreenLook {
    /// Whether colours are wanted; all is said in words, too.
    pub colours: bool,
}

impl ScreenLook {
    fn coloured(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }
}

/// Lines above and below the table.
const HEAD: u16 = 3;
const FOOT: u16 = 1;

/// How many rows fit on a screen that is so high.
pub(super) fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(HEAD + FOOT + 1))
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState, url: &str, look: ScreenLook) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(HEAD),
        Constraint::Min(0),
        Constraint::Length(FOOT),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(head_lines(state, url, look)), head);
    match state.view() {
        TopView::Processes | TopView::Vmas(_) => {
            frame.render_widget(Paragraph::new(table_lines(state, body)), body);
        }
        TopView::Detail(id) => {
            let lines = state
                .now
                .as_ref()
                .map_or_else(Vec::new, |now| detail(now, &id));
            frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), body);
        }
    }
    frame.render_widget(Paragraph::new(foot_line(state, foot.width)), foot);
    if state.help {
        help(frame, state.kind());
    }
}

pub(super) fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

/// Who is asked, what it sees, and why not more.
fn head_lines(state: &TopState, url: &str, look: ScreenLook) -> Vec<Line<'static>> {
    let Some(now) = &state.now else {
        let told = state
            .failure
            .clone()
            .unwrap_or_else(|| format!("waiting for {url}"));
        return vec![Line::from(bold(printable(&told)))];
    };
    let level = match now.level.as_str() {
        "full" => Color::Green,
        "partial" => Color::Yellow,
        _ => Color::Red,
    };
    let level = Span::styled(
        now.level.clone(),
        look.coloured(level).add_modifier(Modifier::BOLD),
    );
    let first = Line::from(vec![
        bold("tracker top"),
        Span::raw(format!("  {}  level ", printable(url))),
        level,
        Span::raw(format!(
            ", {}, kernel {}",
            readiness(now),
            printable(&now.kernel)
        )),
    ]);
    let vmas: usize = now.processes.iter().map(|process| process.vmas.len()).sum();
    let mut second = format!("{}, {}", processes(now.processes.len()), count(vmas, "VMA"),);
    if now.vmas_folded != 0 {
        second += &format!(" and {} without a row", number(now.vmas_folded));
    }
    if let Some(faults) = now.node.faults() {
        second += &format!(", {} faults since the agent started", number(faults));
    }
    let red = look.coloured(Color::Red).add_modifier(Modifier::BOLD);
    let third = match (&state.failure, state.paused) {
        (Some(why), _) => Span::styled(format!("OLD, no answer since: {}", printable(why)), red),
        (None, true) => bold("PAUSED: p goes on"),
        (None, false) if !now.ready => {
            Span::styled(format!("not ready: {}", printable(&now.ready_reason)), red)
        }
        (None, false) if now.node.faults().is_none() => {
            let why = printable(&now.level_reason);
            Span::raw(format!("faults are not counted: {why}"))
        }
        (None, false) if !now.hooks_missing.is_empty() => {
            Span::raw(format!("not at work: {}", now.hooks_missing.join(", ")))
        }
        (None, false) => Span::raw(""),
    };
    vec![first, Line::from(second), Line::from(third)]
}

fn processes(count: usize) -> String {
    match count {
        1 => "1 process".to_owned(),
        _ => format!("{} processes", number(count as u64)),
    }
}

fn readiness(now: &NodeUsage) -> &'static str {
    if now.ready { "ready" } else { "NOT READY" }
}

/// The columns with the characters of each: the last one, if it is a name, has what is left.
fn widths(kind: TableKind, width: usize) -> Vec<(UsageColumn, usize)> {
    let columns = kind.fitting(width);
    let mut widths: Vec<_> = columns
        .iter()
        .map(|column| (*column, column.width()))
        .collect();
    let taken: usize = widths.iter().map(|(_, width)| width + GAP).sum();
    if let Some((UsageColumn::Name, name)) = widths.last_mut() {
        *name += (width + GAP).saturating_sub(taken);
    }
    widths
}

fn padded(column: UsageColumn, text: &str, width: usize) -> String {
    if column.is_text() {
        format!("{text:width$}")
    } else {
        format!("{text:>width$}")
    }
}

fn table_lines(state: &TopState, area: Rect) -> Vec<Line<'static>> {
    let widths = widths(state.kind(), usize::from(area.width));
    let heads = widths.iter().flat_map(|(column, width)| {
        let head = padded(*column, column.head(), *width);
        let sorted = *column == state.sort();
        let style = if sorted {
            Modifier::BOLD | Modifier::UNDERLINED
        } else {
            Modifier::BOLD
        };
        [Span::styled(head, style), Span::raw(" ".repeat(GAP))]
    });
    let mut lines = vec![heads.collect::<Line<'_>>()];
    let rows = state.rows();
    let Some(place) = state.place(&rows) else {
        lines.extend(nothing(state));
        return lines;
    };
    let height = usize::from(area.height).saturating_sub(1);
    let first = first_shown(place, rows.len(), height);
    for (number, row) in rows.iter().enumerate().skip(first).take(height) {
        let cells = widths.iter().map(|(column, width)| {
            padded(*column, &column.cell(row, *width), *width) + &" ".repeat(GAP)
        });
        let style = match (number == place, row.exited) {
            (true, _) => Style::new().add_modifier(Modifier::REVERSED),
            (false, true) => Style::new().add_modifier(Modifier::DIM),
            (false, false) => Style::new(),
        };
        let mut text: String = cells.collect();
        // The whole line of the screen is the selected one.
        let missing = usize::from(area.width).saturating_sub(text.chars().count());
        text += &" ".repeat(missing);
        lines.push(Line::styled(text, style));
    }
    lines
}

/// The first row on the screen: the selected one is in the middle, where there are more above and
/// below.
fn first_shown(place: usize, rows: usize, height: usize) -> usize {
    place
        .saturating_sub(height / 2)
        .min(rows.saturating_sub(height))
}

fn nothing(state: &TopState) -> Option<Line<'static>> {
    let now = state.now.as_ref()?;
    let text = if !state.filter.is_empty() {
        format!(
            "no row has \"{}\"; f and Enter shows all",
            printable(&state.filter)
        )
    } else if matches!(state.view(), TopView::Vmas(Some(_))) {
        "this process has no VMA with a row now".to_owned()
    } else if now.ready {
        "no process uses uffd-wp that the agent can see".to_owned()
    } else {
        "nothing is known: the agent is not ready".to_owned()
    };
    Some(Line::from(text))
}

fn foot_line(state: &TopState, width: u16) -> Line<'static> {
    if let Some((using, typed)) = state.typed() {
        let what = match using {
            InputUse::Filter => "show only rows with: ",
            InputUse::Search => "search: ",
        };
        return Line::from(vec![
            bold(what),
            Span::raw(format!("{}_", printable(typed))),
        ]);
    }
    let order = if state.reversed { ", reversed" } else { "" };
    let mut text = format!(
        "h help  q quit  sorted by {}{order} (< > r)",
        state.sort().head()
    );
    if !state.filter.is_empty() {
        text += &format!("  only \"{}\"", printable(&state.filter));
    }
    for key in ["  Enter more", "  Tab VMAs", "  Esc back", "  p pause"] {
        if text.chars().count() + key.len() <= usize::from(width) {
            text += key;
        }
    }
    Line::from(text)
}

/// The help, over everything else.
fn help(frame: &mut Frame<'_>, kind: TableKind) {
    let mut lines: Vec<_> = KEYS
        .iter()
        .map(|(key, what)| Line::from(vec![bold(format!("{key:>26}  ")), Span::raw(*what)]))
        .collect();
    lines.push(Line::default());
    lines.extend(kind.columns().iter().map(|column| {
        Line::from(vec![
            bold(format!("{:>10}  ", column.head())),
            Span::raw(column.help()),
        ])
    }));
    let block = Block::bordered().title(" tracker top: any key goes on ");
    let area = frame.area();
    let height = (lines.len() as u16 + 2).min(area.height);
    let area = Rect { height, ..area };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::super::rates::RowId;
    use super::super::usage::{CountedEvents, MemoryNow, ProcessUsage, TrackedUsage, VmaUsage};
    use super::*;

    fn counted(faults: u64) -> CountedEvents {
        CountedEvents {
            faults: Some([("async".to_owned(), [("pte".to_owned(), faults)].into())].into()),
            ..CountedEvents::default()
        }
    }

    fn usage(uptime_seconds: f64, faults: u64) -> NodeUsage {
        let process = |pid: u32, comm: &str, faults| ProcessUsage {
            pid,
            comm: comm.to_owned(),
            page_table_bytes: Some(1 << 20),
            counted: counted(faults),
            vmas: vec![VmaUsage {
                vma: format!("{pid}1"),
                name: Some("/dev/shm/ram".to_owned()),
                backing: "shmem".to_owned(),
                now: MemoryNow {
                    bytes: 64 << 20,
                    armed_pages: Some(1000),
                    written_pages: Some(24),
                },
                counted: counted(faults),
                ..VmaUsage::default()
            }],
            ..ProcessUsage::default()
        };
        let mut busy = process(77, "qemu-system-x86", faults);
        busy.tracked = Some(TrackedUsage {
            strategy: "markers".to_owned(),
            reported: Some(
                [
                    ("unchanged".to_owned(), [("zap".to_owned(), 1)].into()),
                    ("changed".to_owned(), [("user-store".to_owned(), 3)].into()),
                ]
                .into(),
            ),
            ..TrackedUsage::default()
        });
        NodeUsage {
            uptime_seconds,
            level: "full".to_owned(),
            kernel: "6.12.117".to_owned(),
            ready: true,
            node: counted(faults + 5),
            processes: vec![process(5, "criu", 5), busy],
            ..NodeUsage::default()
        }
    }

    fn state() -> TopState {
        let mut state = TopState::new();
        state.answer(Ok(usage(10.0, 100)));
        state.answer(Ok(usage(12.0, 2100)));
        state
    }

    fn press(state: &mut TopState, keys: &[KeyCode]) {
        for key in keys {
            state.key(KeyEvent::from(*key), 10);
        }
    }

    /// The lines of the screen, without spaces at their ends.
    fn lines(state: &TopState, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let look = ScreenLook { colours: false };
        terminal
            .draw(|frame| draw(frame, state, "http://127.0.0.1:19943", look))
            .unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol().to_owned())
                .collect::<String>()
        };
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn has_line(lines: &[String], text: &str) -> bool {
        lines.iter().any(|line| line.contains(text))
    }

    #[test]
    fn the_busiest_process_is_first_with_its_rates() {
        let shown = lines(&state(), 80, 24);
        assert!(
            shown[0].contains("level full, ready, kernel 6.12.117"),
            "{shown:#?}"
        );
        assert!(
            shown[1].starts_with("2 processes, 2 VMAs, 2,105 faults"),
            "{shown:#?}"
        );
        let heads =
            "    PID COMM                SIZE  FAULTS/s    ARMED  WRITTEN   TABLES UNCHANGED";
        assert_eq!(shown[3], heads);
        let busy =
            "     77 qemu-system-x86   64 MiB     1,000  3.9 MiB   96 KiB    1 MiB       25%";
        assert_eq!(shown[4], busy);
        assert!(shown[5].contains("criu"), "{shown:#?}");
        assert!(shown[23].starts_with("h help"), "{shown:#?}");
    }

    #[test]
    fn keys_go_down_and_back() {
        let mut state = state();
        press(&mut state, &[KeyCode::Enter]);
        assert!(has_line(&lines(&state, 120, 24), "/dev/shm/ram"));
        press(&mut state, &[KeyCode::Enter]);
        let shown = lines(&state, 80, 24);
        assert!(has_line(&shown, "async, pte"), "{shown:#?}");
        assert!(has_line(&shown, "changed, user-store"), "{shown:#?}");
        press(&mut state, &[KeyCode::Esc, KeyCode::Esc, KeyCode::Esc]);
        assert_eq!(state.view(), TopView::Processes);
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.rows().len(), 2, "the VMAs of all");
    }

    #[test]
    fn rows_are_filtered_searched_and_sorted() {
        let mut state = state();
        press(
            &mut state,
            &[
                KeyCode::Char('/'),
                KeyCode::Char('C'),
                KeyCode::Char('r'),
                KeyCode::Enter,
            ],
        );
        assert_eq!(state.selected, Some(RowId::Process((5, 0))));
        press(
            &mut state,
            &[KeyCode::Char('f'), KeyCode::Char('7'), KeyCode::Enter],
        );
        assert_eq!(state.rows().len(), 1);
        press(
            &mut state,
            &[KeyCode::Char('f'), KeyCode::Enter, KeyCode::Char('r')],
        );
        let pids: Vec<_> = state.rows().iter().map(|row| row.pid).collect();
        assert_eq!(pids, [5, 77], "the least first");
    }

    #[test]
    fn what_is_old_or_not_counted_is_told() {
        let mut state = state();
        state.answer(Err("it does not answer".to_owned()));
        assert!(has_line(
            &lines(&state, 80, 24),
            "OLD, no answer since: it does not answer"
        ));
        let mut observed = usage(14.0, 0);
        observed.node = CountedEvents::default();
        for process in &mut observed.processes {
            process.counted = CountedEvents::default();
            for vma in &mut process.vmas {
                vma.counted = CountedEvents::default();
            }
        }
        observed.level = "observe".to_owned();
        observed.level_reason = "no kprobes".to_owned();
        state.answer(Ok(observed));
        let shown = lines(&state, 80, 24);
        assert!(has_line(&shown, "no kprobes"), "{shown:#?}");
        assert!(
            shown[4].contains(" 64 MiB         -  3.9 MiB"),
            "a dash, not 0: {shown:#?}"
        );
    }

    #[test]
    fn a_pause_keeps_the_screen_and_help_covers_it() {
        let mut state = state();
        press(&mut state, &[KeyCode::Char('p')]);
        state.answer(Ok(usage(20.0, 9000)));
        assert!(has_line(&lines(&state, 80, 24), "PAUSED"));
        assert_eq!(state.now.as_ref().unwrap().uptime_seconds, 12.0);
        press(&mut state, &[KeyCode::Char('h')]);
        let shown = lines(&state, 80, 24);
        assert!(
            has_line(&shown, "select a row") && has_line(&shown, "TABLES"),
            "{shown:#?}"
        );
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut state = state();
        for keys in [
            vec![],
            vec![KeyCode::Enter],
            vec![KeyCode::Enter],
            vec![KeyCode::Char('h')],
        ] {
            press(&mut state, &keys);
            for (width, height) in [(1, 1), (7, 3), (20, 5), (300, 90)] {
                lines(&state, width, height);
            }
        }
    }

    #[test]
    fn the_selected_row_is_always_on_the_screen() {
        for place in 0..50 {
            let first = first_shown(place, 50, 10);
            assert!(
                (first..first + 10).contains(&place) && first <= 40,
                "{place} from {first}"
            );
        }
        assert_eq!(first_shown(2, 3, 10), 0);
    }
}
