//! What is to be measured, and how thoroughly: the arguments after `cargo bench --`.

use std::path::PathBuf;

/// What `--help` says.
pub const HELP: &str = "\
Measure handover beside its baselines, in one run on one machine

cargo bench -- [OPTIONS] [FIGURE]...

  FIGURE            traffic, crash, gap, memory, start, rollout, lasting, messages, pipe, sdk; all when none is named
  --quick           few and short measurements: shows that each figure can be made, not how large it is
  --rounds N        that many rounds of `traffic` and `gap` [default: 7 and 3]
  --write FILE      write the page docs/performance.md there
  --json FILE       write all numbers there
  --install-peers   first install gunicorn and circus under the target directory (benches/peers)

Peers that are not installed are skipped. HANDOVER_GUNICORN, HANDOVER_CIRCUSD, HANDOVER_NGINX and HANDOVER_NODE name
them where they are found neither in the target directory nor in PATH. HANDOVER_BINARY names another handover than the one
that was just built.";

/// The arguments.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Few and short measurements.
    pub quick: bool,
    /// Rounds, where given.
    pub rounds: Option<usize>,
    /// Where to write the page.
    pub page: Option<PathBuf>,
    /// Where to write the numbers.
    pub json: Option<PathBuf>,
    /// Whether to install peers.
    pub install_peers: bool,
    /// Whether only help is wanted.
    pub help: bool,
    /// The figures that are wanted; all where it is empty.
    pub figures: Vec<String>,
    /// As they were given.
    pub given: Vec<String>,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn parse(arguments: &[String], known: &[&str]) -> Result<Self, String> {
        // Cargo adds `--bench` by itself.
        let given: Vec<String> =
            arguments.iter().filter(|argument| *argument != "--bench").cloned().collect();
        let mut options = Self { given: given.clone(), ..Self::default() };
        let mut rest = given.into_iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => {
                    let value = value()?;
                    let rounds = value.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds =
                        Some(rounds.ok_or_else(|| format!("--rounds {value}: not a number above 0"))?);
                }
                "--write" => options.page = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--install-peers" => options.install_peers = true,
                "--help" | "-h" => options.help = true,
                name if known.contains(&name) => options.figures.push(argument),
                _ => {
                    return Err(format!("{argument}: no such option or figure\nhint: cargo bench -- --help"));
                }
            }
        }
        Ok(options)
    }

    /// Whether a figure is wanted.
    pub fn wants(&self, figure: &str) -> bool {
        self.figures.is_empty() || self.figures.iter().any(|wanted| wanted == figure)
    }

    /// One number for a whole run, another one for a quick run.
    pub fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// The command that was given, as the page tells it: where else the numbers went is nobody's business.
    pub fn command(&self) -> String {
        let mut words = vec!["cargo", "bench", "--"];
        let mut rest = self.given.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            if word == "--json" {
                rest.next();
            } else {
                words.push(word);
            }
        }
        words.join(" ")
    }
}
