//! What both directions have in common: a line is read from bytes and written to bytes by the declaration of its type.

use super::fault::{Fault, Unsendable};
use super::halves::whole;
use super::kind::{Carries, Kind};
use super::limits::{DATA_MAX, FDS_MAX, LARGE_LINE_MAX, LINE_MAX};
use super::members::{Members, Reading};
use super::value::Id;
use super::writer::Writer;

/// A line of a type that this version does not know: ignored, and its fds are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its `type`.
    pub kind: String,
    /// Its `id`, where it has one: somebody waits for an answer.
    pub id: Option<Id>,
}

/// One direction of the channel: [`ToWorker`](super::ToWorker) or [`ToHandover`](super::ToHandover).
pub trait Line: Sized + parts::Parts {
    /// The types of this direction.
    const KINDS: &'static [Kind];

    /// The declaration of this line's type; `None` for what can only be read.
    fn kind(&self) -> Option<&'static Kind>;

    /// The id that this line has.
    fn id(&self) -> Option<Id>;

    /// What this line answers.
    fn re(&self) -> Option<Id>;

    /// Reads one line, which ends before its newline, and how many fds it says that it carries.
    ///
    /// # Errors
    ///
    /// What is wrong with it: the channel's end.
    fn decode(line: &[u8]) -> Result<(Self, usize), Fault> {
        if line.len() >= LARGE_LINE_MAX {
            return Err(Fault::TooLong { limit: LARGE_LINE_MAX });
        }
        let text = whole(std::str::from_utf8(line).map_err(|_| Fault::NotUtf8)?);
        let members = Members::of_line(&text)?;
        let name: String = members.lenient("type").ok_or(Fault::NoType)?;
        let known = Self::KINDS.iter().find(|kind| kind.name == name);
        let limit = known.map_or(LINE_MAX, Kind::limit);
        if line.len() >= limit {
            return Err(Fault::TooLong { limit });
        }
        let fds = fds(&members, known)?;
        let line: Self = read(&members, name, known)?;
        if fds > 0 && known.is_some() && line.id().is_none() {
            return Err(Fault::Missing { kind: known.map_or("", |kind| kind.name), member: "id" });
        }
        Ok((line, fds))
    }

    /// Writes the line with its newline; `fds` go with its first byte.
    ///
    /// # Errors
    ///
    /// Where it would break the limits of the page, or carries fds and should not. Nothing of it may be sent then.
    fn encode(&self, fds: usize) -> Result<Vec<u8>, Unsendable> {
        let kind = self.kind().ok_or(Unsendable::NotALine)?;
        match kind.carries {
            Carries::Nothing if fds > 0 => return Err(Unsendable::FdsNotCarried { kind: kind.name }),
            Carries::Fds if fds == 0 => return Err(Unsendable::FdsMissing { kind: kind.name }),
            _ if fds > FDS_MAX => return Err(Unsendable::FdsTooMany { fds }),
            _ if fds > 0 && self.id().is_none() => return Err(Unsendable::FdsWithoutId),
            _ => {}
        }
        let mut writer = Writer::line(kind);
        self.write(&mut writer)?;
        if fds > 0 {
            writer.number("fds", fds as u64);
        }
        writer.finish_line(kind.limit())
    }
}

/// What only the codec calls.
pub(super) mod parts {
    use super::{Fault, Kind, Reading, Unknown, Unsendable, Writer};

    /// The reading and writing of members.
    pub trait Parts: Sized {
        /// Reads the members of a line of a known type.
        fn read(kind: &'static Kind, members: &Reading<'_>) -> Result<Self, Fault>;

        /// A line of an unknown type.
        fn unknown(unknown: Unknown) -> Self;

        /// Writes the members, without `type` and `fds`.
        fn write(&self, writer: &mut Writer) -> Result<(), Unsendable>;
    }
}

/// Reads the line, once its type is looked up.
pub(super) fn read<L: Line>(
    members: &Members<'_>,
    name: String,
    known: Option<&'static Kind>,
) -> Result<L, Fault> {
    let Some(kind) = known else {
        let id = members.lenient("id").and_then(Id::new);
        return Ok(L::unknown(Unknown { kind: name, id }));
    };
    if kind.is_large && members.raw("data").is_some_and(|data| data.get().len() > DATA_MAX) {
        return Err(Fault::DataTooLong);
    }
    L::read(kind, &Reading::new(kind, members))
}

/// How many fds a line says that it carries.
fn fds(members: &Members<'_>, known: Option<&'static Kind>) -> Result<usize, Fault> {
    let name = known.map_or("(unknown)", |kind| kind.name);
    let wrong = Fault::Wrong { kind: name, member: "fds", expected: "a whole number from 1 to 64" };
    let said = match members.raw("fds") {
        None => 0,
        Some(raw) => serde_json::from_str::<usize>(raw.get()).map_err(|_| wrong.clone())?,
    };
    match known.map(|kind| kind.carries) {
        Some(Carries::Nothing) if said > 0 => Err(Fault::FdsNotCarried { kind: name }),
        Some(Carries::Fds) if members.raw("fds").is_none() => {
            Err(Fault::Missing { kind: name, member: "fds" })
        }
        Some(Carries::Fds) if said == 0 => Err(wrong),
        _ if said > FDS_MAX => Err(wrong),
        _ => Ok(said),
    }
}
