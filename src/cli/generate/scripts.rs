//! The completions of each shell: a short script that hands the words to `handover __complete`. They stand in
//! `packaging/completions`, for those who make packages.

use clap::ValueEnum;

/// A shell that there are completions for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    /// What the shell reads.
    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../../packaging/completions/handover.bash"),
            Self::Fish => include_str!("../../../packaging/completions/handover.fish"),
            Self::Zsh => include_str!("../../../packaging/completions/_handover"),
        }
    }
}
