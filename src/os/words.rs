//! What the system said, in words.

use std::io;

/// The text of an error for a person: lower case, and without the number that std adds in parentheses,
/// which says nothing that the text does not.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_said_without_its_number() {
        assert_eq!(words(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(words(&io::Error::other("Not this: (os)")), "Not this: (os)");
    }
}
