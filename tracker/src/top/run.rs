//! The terminal: asks the agent again and again, draws, and does what keys ask for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::ask::AgentClient;
use super::screen::{self, ScreenLook};
use super::state::{AfterKey, TopState};
use super::usage::NodeUsage;

/// How soon a key or an answer is shown.
const GLANCE: Duration = Duration::from_millis(50);

type Answer = Result<NodeUsage, String>;

/// How to show an agent.
#[derive(Clone, Debug)]
pub(crate) struct TopOptions {
    /// What it is called on the screen.
    pub url: String,
    /// From one question to the next.
    pub interval: Duration,
    /// Whether colours are wanted.
    pub colours: bool,
}

/// Shows the agent until a key or a signal ends it; the terminal is then as it was before.
///
/// # Errors
/// If the terminal cannot be used.
pub(crate) fn run(client: AgentClient, options: &TopOptions) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let (answers, asked) = mpsc::channel();
    let (_quit, quit) = mpsc::channel();
    let interval = options.interval;
    thread::spawn(move || ask_again_and_again(&client, interval, &answers, &quit));
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, options, &asked, &ended);
    ratatui::try_restore()?;
    shown
}

/// Ends with the receiver of the answers, or with `quit`.
fn ask_again_and_again(
    client: &AgentClient,
    interval: Duration,
    answers: &Sender<Answer>,
    quit: &Receiver<()>,
) {
    loop {
        let answer = client.usage().map_err(|error| error.to_string());
        let is_over = answers.send(answer).is_err();
        if is_over || quit.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    options: &TopOptions,
    answers: &Receiver<Answer>,
    ended: &AtomicBool,
) -> io::Result<()> {
    let look = ScreenLook {
        colours: options.colours,
    };
    let mut state = TopState::new();
    let mut changed = true;
    while !ended.load(Ordering::Relaxed) {
        while let Ok(answer) = answers.try_recv() {
            state.answer(answer);
            changed = true;
        }
        if changed {
            terminal.draw(|frame| screen::draw(frame, &state, &options.url, look))?;
        }
        changed = event::poll(GLANCE)?;
        if !changed {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let page = screen::page(terminal.size()?.height);
                if state.key(key, page) == AfterKey::Quit {
                    return Ok(());
                }
            }
            // A resize is drawn by the next turn.
            _ => {}
        }
    }
    Ok(())
}
