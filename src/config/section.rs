//! The form in which sections are declared.
//!
//! One declaration of a key gives its field, its check, its default and its line in the reference.

/// Declares a section: a struct with a field for each key, its reader, and its lines of the reference.
///
/// `default("TOML") key: Type` has that default, `unset("what then holds") key: Type` and `required key: Type`
/// have none, and those in `+ later { … }` are refused as not supported yet. `on(SET)` limits a listener's key.
macro_rules! section {
    (
        $(#[$doc:meta])*
        struct $name:ident {
            $( $how:ident $(($say:literal))? $key:ident : $type:ty $(, on($on:ident))?, $meaning:literal; )*
            $( + later { $( $later:ident : $what:literal, $later_meaning:literal; )* } )?
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(in crate::config) struct $name {
            $( #[doc = $meaning] pub $key: $crate::config::section::field_type!($how, $type), )*
        }

        impl $crate::config::walk::Section for $name {
            const KEYS: &'static [$crate::config::walk::Key] = &[
                $( $crate::config::walk::Key {
                    name: stringify!($key),
                    kind: <$type as $crate::config::walk::Read>::kind,
                    default: $crate::config::section::default_of!($how $(($say))?),
                    on: $crate::config::section::on!($($on)?),
                    meaning: $meaning,
                    since: "0.1.0",
                }, )*
                $($( $crate::config::walk::Key {
                    name: stringify!($later),
                    kind: || $crate::config::walk::Kind::value($what, "", $crate::config::walk::Shape::Text),
                    default: $crate::config::walk::Default::Later,
                    on: None,
                    meaning: $later_meaning,
                    since: "not supported yet",
                }, )*)?
            ];

            fn from_table(
                table: &toml::de::DeTable<'_>,
                at: &$crate::config::walk::Place,
                log: &mut $crate::config::walk::Log,
            ) -> Self {
                $crate::config::walk::check_keys(Self::KEYS, table, at, log);
                Self {
                    $( $key: $crate::config::section::read_field!(
                        $how $(($say))?, stringify!($key), table, at, log
                    ), )*
                }
            }

            fn given(&self) -> Vec<(&'static $crate::config::walk::Key, &$crate::config::walk::Place)> {
                let places = [$( $crate::config::walk::Stands::place(&self.$key) ),*];
                Self::KEYS.iter().zip(places).filter_map(|(key, place)| Some((key, place?))).collect()
            }
        }

        impl $crate::config::walk::Read for $name {
            fn kind() -> $crate::config::walk::Kind {
                $crate::config::walk::Kind::Table(<Self as $crate::config::walk::Section>::KEYS)
            }

            fn read(
                value: &toml::de::DeValue<'_>,
                at: &$crate::config::walk::Place,
                log: &mut $crate::config::walk::Log,
            ) -> Option<Self> {
                match value.as_table() {
                    Some(table) => Some($crate::config::walk::Section::from_table(table, at, log)),
                    None => {
                        log.value(at, $crate::config::walk::no_section(&Self::kind(), value, at));
                        None
                    }
                }
            }
        }
    };
}

macro_rules! field_type {
    (default, $type:ty) => { $crate::config::walk::Placed<$type> };
    ($other:ident, $type:ty) => { $crate::config::walk::Given<$type> };
}

macro_rules! default_of {
    (default($value:literal)) => {
        $crate::config::walk::Default::Value($value)
    };
    (unset($say:literal)) => {
        $crate::config::walk::Default::Unset($say)
    };
    (required) => {
        $crate::config::walk::Default::Required
    };
}

macro_rules! on {
    () => {
        None
    };
    ($on:ident) => {
        Some(&$on)
    };
}

macro_rules! read_field {
    (default($value:literal), $name:expr, $table:ident, $at:ident, $log:ident) => {
        $crate::config::walk::or_default($name, $value, $table, $at, $log)
    };
    (unset($say:literal), $name:expr, $table:ident, $at:ident, $log:ident) => {
        $crate::config::walk::optional($name, $table, $at, $log)
    };
    (required, $name:expr, $table:ident, $at:ident, $log:ident) => {
        $crate::config::walk::required($name, $table, $at, $log)
    };
}

pub(super) use {default_of, field_type, on, read_field, section};
