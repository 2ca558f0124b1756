//! The page of the figures names only what there is.

use std::process::Command;

use super::blocks::{blocks, page, root};
use super::support::handover;

/// The command lines that a page shows: in blocks for the shell, and in the text.
fn command_lines(page: &str) -> Vec<String> {
    let shells = blocks(page).into_iter().filter(|block| block.words == ["sh"]);
    let mut lines: Vec<String> =
        shells.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let text: String = page.split("```").step_by(2).collect();
    lines.extend(text.split('`').skip(1).step_by(2).map(str::to_owned));
    lines
}

#[test]
fn the_performance_page_names_only_commands_that_exist() {
    let page = page("docs/performance.md");
    let help = super::page("benches/figures/args.rs");
    let mut named = 0;
    for line in command_lines(&page) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["cargo", "bench", "--", ref arguments @ ..] => {
                let mut rest = arguments.iter();
                while let Some(argument) = rest.next() {
                    let known = if argument.starts_with("--") {
                        help.contains(&format!("\n  {argument} ")) || *argument == "--help"
                    } else {
                        root().join(format!("benches/figures/{argument}.rs")).exists()
                    };
                    assert!(known, "there is no {argument}: {line}");
                    if ["--write", "--json", "--rounds"].contains(argument) {
                        rest.next();
                    }
                }
            }
            ["handover", command, ..] => {
                let output = Command::new(handover()).args([command, "--help"]).output().expect("our binary");
                assert!(output.status.success(), "there is no such command: {line}");
            }
            [path] if path.starts_with("benches/") || path.starts_with("docs/") => {
                assert!(root().join(path).exists(), "there is no {path}");
            }
            _ => continue,
        }
        named += 1;
    }
    assert!(named > 4, "the page names hardly any command");
}
