//! The schema of the configuration in taplo, the language server that editors use for TOML.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::handover;
use crate::support::machine::skipped;
use crate::support::scratch::Scratch;

/// `$HANDOVER_TAPLO`, or the one in `PATH`.
fn taplo() -> Option<PathBuf> {
    let given = std::env::var_os("HANDOVER_TAPLO").map(PathBuf::from);
    given.or_else(|| crate::support::machine::find("taplo").map(PathBuf::from)).filter(|path| path.exists())
}

fn schema() -> Vec<u8> {
    Command::new(handover()).args(["generate", "schema"]).output().expect("it starts").stdout
}

/// `taplo check` with the schema that the program prints now.
fn check(taplo: &Path, scratch: &Scratch, files: &[PathBuf]) -> Output {
    let schema = scratch.write("handover.schema.json", schema());
    let mut command = Command::new(taplo);
    command.args(["check", "--schema", &format!("file://{}", schema.display())]).args(files);
    command.current_dir(scratch.path()).output().expect("it starts")
}

fn configurations(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = std::fs::read_dir(directory).expect("it is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

#[test]
fn taplo_marks_what_is_misspelt_and_nothing_that_is_right() {
    let found = taplo();
    if skipped("taplo", found.is_none()) {
        return;
    }
    let (taplo, scratch) = (found.expect("looked up above"), Scratch::new());
    // With `NAME.print` beside them they are without fault.
    let golden = configurations("tests/golden/config");
    let golden = golden.into_iter().filter(|path| path.with_extension("print").exists());
    let good: Vec<PathBuf> =
        configurations("config").into_iter().chain(configurations("config/examples")).chain(golden).collect();
    assert!(good.len() >= 9, "{good:?}");
    let output = check(&taplo, &scratch, &good);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let shipped = std::fs::read_to_string(&good[0]).expect("found above");
    let changes = [
        ("\ncommand = ", "\ncomand = "),
        ("[pool.web]", "[pools.web]"),
        ("\naddress = \"tcp://", "\naddress = \"http://"),
        ("\nlisteners = [\"http\"]", "\nlisteners = \"http\""),
        ("\nready = \"notify\"", "\nready = \"soon\""),
        ("\n#start_timeout = \"30s\"", "\nstart_timeout = \"30 parsecs\""),
    ];
    let wrong = changes.iter().enumerate().map(|(index, (right, wrong))| {
        assert!(shipped.contains(right), "{right:?} is not in the shipped configuration");
        scratch.write(&format!("wrong-{index}.toml"), shipped.replacen(right, wrong, 1))
    });
    let wrong: Vec<PathBuf> = wrong.collect();
    let output = check(&taplo, &scratch, &wrong);
    let marked = String::from_utf8_lossy(&output.stderr);
    for (path, (_, change)) in wrong.iter().zip(changes) {
        let verdict = format!("invalid file error=schema validation failed path=\"{}\"", path.display());
        assert!(marked.contains(&verdict), "{change:?} was not marked: {marked}");
    }
}

#[test]
fn taplo_finds_the_schema_that_a_file_names() {
    let found = taplo();
    if skipped("taplo", found.is_none()) {
        return;
    }
    let (taplo, scratch) = (found.expect("looked up above"), Scratch::new());
    let schema = scratch.write("handover.schema.json", schema());
    for (keys, good) in [("command = [\"/bin/x\"]", true), ("comand = [\"/bin/x\"]", false)] {
        let file = scratch.write("a.toml", format!("#:schema {}\n\n[pool.web]\n{keys}\n", schema.display()));
        let output = Command::new(&taplo).arg("check").arg(file).current_dir(scratch.path()).output();
        let output = output.expect("it starts");
        assert_eq!(output.status.success(), good, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
