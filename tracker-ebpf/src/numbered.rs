//! Enums that both sides know by number.

/// Declares an enum whose variants are numbered from 0, and index the arrays that have one entry
/// for each. A variant is one line, with the word that metrics and reports show for it, where they
/// do.
macro_rules! numbered {
    ($(#[$about:meta])* pub enum $enum:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        numbered! { $(#[$about])* pub enum $enum { $($(#[$doc])* $variant,)* } }

        impl $enum {
            /// Its word in metrics and reports.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
    ($(#[$about:meta])* pub enum $enum:ident { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum $enum { $($(#[$doc])* $variant,)* }

        impl $enum {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The one with that number.
            #[must_use]
            pub fn from_number(number: u32) -> Option<Self> {
                Self::ALL.get(number as usize).copied()
            }
        }
    };
}
pub(crate) use numbered;
