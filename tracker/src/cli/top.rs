//! `tracker top`: who uses uffd-wp on this node or another one, on a screen that goes on.

use std::fs;
use std::io::{IsTerminal as _, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{output, terminal, values};
use crate::print::terminal::TerminalShades;
use crate::top::ask::{AgentClient, AgentPlace};
use crate::top::once;
use crate::top::run::{self, TopOptions};

/// The flags of `tracker top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Where the agent is
    #[arg(
        value_name = "URL",
        default_value = "http://127.0.0.1:19943",
        value_parser = url
    )]
    url: String,
    /// Ask this often
    #[arg(
        short,
        long,
        env = "TRACKER_INTERVAL",
        default_value = "2s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    interval: Duration,
    /// Print the tables once, with the rates of one interval, and end
    #[arg(long, env = "TRACKER_ONCE")]
    once: bool,
    /// Print what the agent tells once, as JSON, and end
    #[arg(long, env = "TRACKER_JSON", conflicts_with = "once")]
    json: bool,
    /// Trust agents whose certificate is signed by one of these, in PEM format
    #[arg(long, env = "TRACKER_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Ask as this user, with the password in --password-file
    #[arg(
        long,
        env = "TRACKER_USER",
        value_name = "NAME",
        requires = "password_file"
    )]
    user: Option<String>,
    /// The password of --user; a newline at its end is none of it
    #[arg(
        long,
        env = "TRACKER_PASSWORD_FILE",
        value_name = "FILE",
        requires = "user"
    )]
    password_file: Option<PathBuf>,
}

/// Shows the agent.
///
/// # Errors
/// If a file cannot be read, the terminal cannot be used or, once, the agent gives no answer.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&place(args)?)?;
    if args.json {
        output::print(&client.text()?)?;
    } else if args.once {
        let earlier = client.usage()?;
        thread::sleep(args.interval);
        output::print(&once::text(Some(&earlier), &client.usage()?))?;
    } else {
        if !stdout().is_terminal() || !stdin().is_terminal() {
            anyhow::bail!("`tracker top` needs a terminal; --once and --json print without one");
        }
        let options = TopOptions {
            url: args.url.clone(),
            interval: args.interval,
            colours: terminal::shades() != TerminalShades::Plain,
        };
        run::run(client, &options).context("cannot use this terminal")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn place(args: &TopArgs) -> anyhow::Result<AgentPlace> {
    let roots = args.ca_file.as_ref().map(|file| {
        fs::read(file).with_context(|| format!("cannot read --ca-file {}", file.display()))
    });
    let login = args
        .user
        .as_ref()
        .zip(args.password_file.as_ref())
        .map(|(user, file)| {
            let read = fs::read_to_string(file);
            let password =
                read.with_context(|| format!("cannot read --password-file {}", file.display()))?;
            let password = password.strip_suffix('\n').unwrap_or(&password);
            anyhow::Ok((user.clone(), password.to_owned()))
        });
    Ok(AgentPlace {
        url: args.url.clone(),
        roots: roots.transpose()?,
        login: login.transpose()?,
    })
}

/// `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`, which is http.
fn url(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let is_known = ["http", "https"].contains(&scheme);
    let host = rest.trim_end_matches('/');
    if !is_known
        || host.is_empty()
        || host.contains(|c: char| c.is_whitespace() || "/?#@".contains(c))
    {
        return Err("write http://HOST:PORT or https://HOST:PORT".to_owned());
    }
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_unless_it_says_https() {
        assert_eq!(url("node1:19943").as_deref(), Ok("http://node1:19943"));
        assert_eq!(
            url("https://[::1]:19943/").as_deref(),
            Ok("https://[::1]:19943")
        );
        for wrong in [
            "",
            "ftp://a",
            "http://",
            "http://a/metrics",
            "http://me:secret@a",
            "a b",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
