//! How much one line may be. Each number is on the page (`docs/protocol.md`), and a test compares them.
//!
//! They bound what a hostile peer can make the other side keep: a line is read whole before anything is done with it.

/// The longest line in bytes, its newline included; [`LARGE_LINE_MAX`] for `message` and `reply`.
pub const LINE_MAX: usize = 65_536;

/// The longest `message` or `reply` in bytes, its newline included.
pub const LARGE_LINE_MAX: usize = 1_048_576;

/// The longest `data` in bytes. The rest of a [`LARGE_LINE_MAX`] is for what stands around it, which is longer on the
/// way to the receiver (`from`) than on the way to handover (`to`).
pub const DATA_MAX: usize = 1_000_000;

/// How deep objects and arrays may nest, the line's own object included.
pub const DEPTH_MAX: usize = 64;

/// How many fds a line may carry.
pub const FDS_MAX: usize = 64;

/// How many fds the kernel passes in one message (`SCM_MAX_FD`, Linux since 2.6.38): the room that a reader makes.
pub const FDS_READ_MAX: usize = 253;

/// The largest number: 2⁵³-1, so that every language can hold it.
pub const NUMBER_MAX: u64 = 9_007_199_254_740_991;

/// The longest text for people (`text`, `reason`) in bytes; what is longer is cut.
pub const TEXT_MAX: usize = 1_024;

/// The longest `client` in bytes; what is longer is cut.
pub const CLIENT_MAX: usize = 128;

/// The longest `target` of a record in bytes; what is longer is cut.
pub const LOG_TARGET_MAX: usize = 256;

/// The most `fields` of a record; those that come after are dropped.
pub const LOG_FIELDS_MAX: usize = 64;

/// The time that a message waits for its reply where it does not say, in milliseconds.
pub const REPLY_TIMEOUT_MS: u64 = 30_000;

/// The longest time that a message may wait for its reply, in milliseconds; what is longer counts as this.
pub const REPLY_TIMEOUT_MS_MAX: u64 = 3_600_000;

/// The most questions of one worker that wait for their answers.
pub const QUESTIONS_MAX: usize = 1_024;

/// The most workers that `sent` names as those that did not get it.
pub const SENT_REFUSED_MAX: usize = 1_000;

/// `text` within `max` bytes: cut before a character that does not fit.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let boundary = (0..=max).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(boundary.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_before_the_character_that_does_not_fit() {
        assert_eq!(cut("aéé".to_owned(), 4), "aé");
        assert_eq!(cut("aéé".to_owned(), 5), "aéé");
        assert_eq!(cut("é".to_owned(), 1), "");
    }
}
