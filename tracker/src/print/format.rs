//! The formats in which commands show what they found. Each is one entry, which all commands share;
//! a command lists those it supports and says how it makes them.
//!
//! What is printed may go to a terminal. Documents and bytes go to files only.

/// A format: one of those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutputFormat {
    /// As people call it.
    pub name: &'static str,
    /// Whether people look at it; else only programs do.
    pub is_for_people: bool,
    /// What chooses it.
    pub choice: FormatChoice,
}

/// What chooses a format, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatChoice {
    /// Nothing: it is printed if no flag asks for another.
    Default,
    /// A flag: it is printed then.
    Flag(FormatFlag),
    /// A flag that names the file to write, which must not exist unless `--force` replaces it.
    File(FormatFlag),
    /// The same, and the extension of that file.
    Extension(FormatFlag, &'static str),
}

/// A flag that chooses a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormatFlag {
    pub long: &'static str,
    pub short: Option<char>,
    /// The environment variable that stands in for it.
    pub variable: &'static str,
}

const HEATMAP_FLAG: FormatFlag = FormatFlag {
    long: "heatmap",
    short: None,
    variable: "TRACKER_HEATMAP",
};

const PLOT_FLAG: FormatFlag = FormatFlag {
    long: "plot",
    short: None,
    variable: "TRACKER_PLOT",
};

/// For people.
pub(crate) static TEXT: OutputFormat = OutputFormat {
    name: "text",
    is_for_people: true,
    choice: FormatChoice::Default,
};

/// For programs: one object a line, or one document.
pub(crate) static JSON: OutputFormat = OutputFormat {
    name: "JSON",
    is_for_people: false,
    choice: FormatChoice::Flag(FormatFlag {
        long: "json",
        short: None,
        variable: "TRACKER_JSON",
    }),
};

/// For people who write to people: tables as in a README.
pub(crate) static MARKDOWN: OutputFormat = OutputFormat {
    name: "Markdown",
    is_for_people: true,
    choice: FormatChoice::Flag(FormatFlag {
        long: "markdown",
        short: None,
        variable: "TRACKER_MARKDOWN",
    }),
};

/// A page for a browser.
pub(crate) static HTML: OutputFormat = OutputFormat {
    name: "HTML",
    is_for_people: true,
    choice: FormatChoice::File(FormatFlag {
        long: "html",
        short: None,
        variable: "TRACKER_HTML",
    }),
};

/// A heat map as a drawing.
pub(crate) static SVG: OutputFormat = OutputFormat {
    name: "SVG",
    is_for_people: true,
    choice: FormatChoice::Extension(HEATMAP_FLAG, "svg"),
};

/// A heat map as pixels.
pub(crate) static PNG: OutputFormat = OutputFormat {
    name: "PNG",
    is_for_people: true,
    choice: FormatChoice::Extension(HEATMAP_FLAG, "png"),
};

/// A plot as a drawing.
pub(crate) static PLOT_SVG: OutputFormat = OutputFormat {
    name: "SVG",
    is_for_people: true,
    choice: FormatChoice::Extension(PLOT_FLAG, "svg"),
};

/// A plot as pixels.
pub(crate) static PLOT_PNG: OutputFormat = OutputFormat {
    name: "PNG",
    is_for_people: true,
    choice: FormatChoice::Extension(PLOT_FLAG, "png"),
};

/// What `tracker report` reads.
pub(crate) static RECORDING: OutputFormat = OutputFormat {
    name: "recording",
    is_for_people: false,
    choice: FormatChoice::File(FormatFlag {
        long: "output",
        short: Some('o'),
        variable: "TRACKER_OUTPUT",
    }),
};
