//! The flags that choose formats, made from a command's list of them.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::{CommandOutputs, OutputEntry};
use crate::print::format::{FormatChoice, FormatFlag};

const FORCE: &str = "force";
/// All flags that name a file.
const FILES: &str = "files";

/// What was chosen.
pub(crate) struct OutputArgs<C: CommandOutputs> {
    /// What is printed.
    printed: &'static OutputEntry<C::OutputMaker>,
    /// What is written to files, in the order of the list.
    files: Vec<OutputFile<C::OutputMaker>>,
}

/// A format and the file that it goes to.
pub(super) struct OutputFile<M: 'static> {
    pub entry: &'static OutputEntry<M>,
    pub path: PathBuf,
    /// Whether a file that exists is replaced.
    pub replaces: bool,
}

impl<C: CommandOutputs> OutputArgs<C> {
    /// How to make what is printed.
    pub(crate) fn printed(&self) -> C::OutputMaker {
        self.printed.make
    }

    /// Whether people read what is printed, not programs.
    pub(crate) fn is_for_people(&self) -> bool {
        self.printed.format.is_for_people
    }

    /// Where something is written, beside what is printed.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    pub(super) fn files(&self) -> &[OutputFile<C::OutputMaker>] {
        &self.files
    }
}

impl<C: CommandOutputs> fmt::Debug for OutputArgs<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files.iter();
        f.debug_struct("OutputArgs")
            .field("printed", &self.printed.format.name)
            .field("files", &files.map(|file| &file.path).collect::<Vec<_>>())
            .finish()
    }
}

impl<C: CommandOutputs> Args for OutputArgs<C> {
    fn augment_args(command: Command) -> Command {
        let flags = flags::<C>();
        let files = flags.iter().filter(|flag| flag.is_file());
        let files: Vec<_> = files.map(|flag| flag.flag.long).collect();
        let command = command.args(flags.iter().map(ChoiceFlag::arg));
        if files.is_empty() {
            return command;
        }
        let force = Arg::new(FORCE)
            .long(FORCE)
            .env("TRACKER_FORCE")
            .help("Replace the file if it exists; a link is replaced, not what it leads to")
            .action(ArgAction::SetTrue)
            .requires(FILES);
        command
            .arg(force)
            .group(ArgGroup::new(FILES).args(files).multiple(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: CommandOutputs> FromArgMatches for OutputArgs<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut printed = None;
        let mut files = Vec::new();
        let is_forced = matches.try_get_one(FORCE).ok().flatten() == Some(&true);
        for entry in C::OUTPUTS {
            let flag = match entry.format.choice {
                FormatChoice::Default => {
                    printed = printed.or(Some(entry));
                    continue;
                }
                FormatChoice::Flag(flag) => {
                    if matches.get_flag(flag.long) {
                        printed = Some(entry);
                    }
                    continue;
                }
                FormatChoice::File(flag) | FormatChoice::Extension(flag, _) => flag,
            };
            let path = matches.get_one::<PathBuf>(flag.long);
            if let Some(path) = path.filter(|path| is_of(entry, path)) {
                files.push(OutputFile {
                    entry,
                    path: path.clone(),
                    replaces: is_forced,
                });
            }
        }
        let printed = printed.ok_or_else(|| {
            let kind = clap::error::ErrorKind::MissingRequiredArgument;
            clap::Error::raw(kind, "no format to print is chosen\n")
        })?;
        Ok(Self { printed, files })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether a file is of a format: where the extension says it, by that.
fn is_of<M>(entry: &OutputEntry<M>, path: &Path) -> bool {
    match entry.format.choice {
        FormatChoice::Extension(_, extension) => has_extension(path, extension),
        _ => true,
    }
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// A flag with all formats that it chooses.
struct ChoiceFlag {
    flag: FormatFlag,
    help: &'static str,
    names: Vec<&'static str>,
    kind: ChoiceKind,
}

enum ChoiceKind {
    Switch,
    File,
    Extensions(Vec<&'static str>),
}

/// The flags of a command, in the order of its list.
fn flags<C: CommandOutputs>() -> Vec<ChoiceFlag> {
    let mut flags: Vec<ChoiceFlag> = Vec::new();
    for entry in C::OUTPUTS {
        let (flag, kind) = match entry.format.choice {
            FormatChoice::Default => continue,
            FormatChoice::Flag(flag) => (flag, ChoiceKind::Switch),
            FormatChoice::File(flag) => (flag, ChoiceKind::File),
            FormatChoice::Extension(flag, extension) => {
                (flag, ChoiceKind::Extensions(vec![extension]))
            }
        };
        match flags.iter_mut().find(|known| known.flag == flag) {
            Some(known) => known.add(entry.format.name, kind),
            None => flags.push(ChoiceFlag {
                flag,
                help: entry.help,
                names: vec![entry.format.name],
                kind,
            }),
        }
    }
    flags
}

impl ChoiceFlag {
    fn add(&mut self, name: &'static str, kind: ChoiceKind) {
        self.names.push(name);
        if let (ChoiceKind::Extensions(all), ChoiceKind::Extensions(more)) = (&mut self.kind, kind)
        {
            all.extend(more);
        }
    }

    fn is_file(&self) -> bool {
        !matches!(self.kind, ChoiceKind::Switch)
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.flag.long)
            .long(self.flag.long)
            .env(self.flag.variable)
            .help(self.help.replace("{}", &self.names.join(" or ")));
        let arg = match self.flag.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        match &self.kind {
            ChoiceKind::Switch => arg.action(ArgAction::SetTrue),
            ChoiceKind::File => arg.value_name("FILE").value_parser(value_parser!(PathBuf)),
            ChoiceKind::Extensions(extensions) => arg
                .value_name(format!("FILE.{}", extensions.join("|.")))
                .value_parser(file_of(extensions.clone())),
        }
    }
}

/// A file whose name says what to draw.
fn file_of(extensions: Vec<&'static str>) -> ValueParser {
    ValueParser::new(move |text: &str| {
        let path = PathBuf::from(text);
        if extensions.iter().any(|known| has_extension(&path, known)) {
            return Ok(path);
        }
        let wanted = extensions.join(" or .");
        Err(format!(
            "`{text}` must end in .{wanted}, which says what to draw"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::print::format;

    /// A command with every kind of choice.
    struct EveryChoice;

    impl CommandOutputs for EveryChoice {
        type OutputMaker = u8;

        const OUTPUTS: &'static [OutputEntry<u8>] = &[
            OutputEntry {
                format: &format::TEXT,
                help: "",
                make: 0,
            },
            OutputEntry {
                format: &format::JSON,
                help: "Print it",
                make: 1,
            },
            OutputEntry {
                format: &format::SVG,
                help: "Draw {}",
                make: 2,
            },
            OutputEntry {
                format: &format::PNG,
                help: "",
                make: 3,
            },
            OutputEntry {
                format: &format::RECORDING,
                help: "Record",
                make: 4,
            },
        ];
    }

    fn parse(arguments: &[&str]) -> Result<OutputArgs<EveryChoice>, clap::Error> {
        let command = OutputArgs::<EveryChoice>::augment_args(Command::new("every"));
        let matches = command.try_get_matches_from([&["every"], arguments].concat())?;
        OutputArgs::from_arg_matches(&matches)
    }

    fn files(args: &OutputArgs<EveryChoice>) -> Vec<(u8, &str, bool)> {
        let file = |file: &'_ OutputFile<u8>| (file.entry.make, file.replaces);
        let told = args.files.iter().map(file);
        let paths = args.paths().map(|path| path.to_str().unwrap());
        told.zip(paths)
            .map(|((make, replaces), path)| (make, path, replaces))
            .collect()
    }

    #[test]
    fn a_flag_chooses_what_is_printed() {
        assert_eq!(parse(&[]).unwrap().printed(), 0);
        assert_eq!(parse(&["--json"]).unwrap().printed(), 1);
    }

    #[test]
    fn the_extension_of_a_picture_says_its_format() {
        for (path, make) in [("a.b/heat.svg", 2), ("HEAT.PNG", 3)] {
            let args = parse(&["--heatmap", path]).unwrap();
            assert_eq!(files(&args), [(make, path, false)]);
        }
        for wrong in ["heat", "heat.jpg", "svg", ".png", ""] {
            let error = parse(&["--heatmap", wrong]).unwrap_err().to_string();
            assert!(
                error.contains("must end in .svg or .png, which says"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_is_kept_unless_it_is_to_be_replaced() {
        let kept = parse(&["-o", "a.rec"]).unwrap();
        assert_eq!(files(&kept), [(4, "a.rec", false)]);
        let replaced = parse(&["--output", "a.rec", "--force"]).unwrap();
        assert_eq!(files(&replaced), [(4, "a.rec", true)]);
        assert!(parse(&["--force"]).is_err());
    }

    #[test]
    fn formats_of_one_flag_share_its_help() {
        let mut command = OutputArgs::<EveryChoice>::augment_args(Command::new("every"));
        let help = command.render_help().to_string();
        assert!(help.contains("--heatmap <FILE.svg|.png>"), "{help}");
        assert!(help.contains("Draw SVG or PNG"), "{help}");
    }
}
