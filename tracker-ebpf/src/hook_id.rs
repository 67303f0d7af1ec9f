//! What hooks are called, on both sides.

use core::fmt;

use crate::numbered::numbered;

/// Makes [`HookId`] from the rows.
macro_rules! ids {
    ($(
        $(#[$about:meta])*
        $table:ident {
            $(
                $hook:ident: $subject:ident, at [$($at:literal),*],
                by $([$($mechanism:ident $name:ident $($section:literal)?),*] => $body:path,)*
                fires $fires:ident($proof:tt),
                $(under $lock:ident,)?
                $(with $how:ident($partner:ident),)?
                $(only [$($condition:ident),*],)?
                without $without:literal;
            )*
        }
    )*) => {
        numbered! {
            /// A hook of either table, by the name it has everywhere.
            #[allow(non_camel_case_types, reason = "the names of hooks, as users write them")]
            #[allow(missing_docs, reason = "docs/hooks.md has a section for each")]
            pub enum HookId {
                $($($hook,)*)*
            }
        }

        impl HookId {
            /// Its name, as in messages, metrics and `--no-hook`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$hook => stringify!($hook),)*)*
                }
            }
        }
    };
}
hooks!(ids);

impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
