//! What happens for every event in every state: a walk over all short sequences of events, with one slot
//! and with two, from each stage of a daemon's life.
//!
//! Every step is checked by the simulation's shadow model. From all steps together comes the state × event
//! table in `docs/architecture.md`; the test fails when that is stale, and `HANDOVER_BLESS=1 cargo test
//! --test exhaustive` writes it anew.

use std::path::Path;

#[path = "simulation/channel.rs"]
mod channel;
#[path = "simulation/ends.rs"]
mod ends;
#[path = "simulation/left.rs"]
mod left;
#[path = "simulation/lost.rs"]
mod lost;
#[path = "simulation/orders.rs"]
mod orders;
#[path = "simulation/pace.rs"]
mod pace;
#[path = "simulation/shadow.rs"]
mod shadow;
#[path = "exhaustive/table.rs"]
mod table;
#[path = "simulation/upkeep.rs"]
mod upkeep;
#[path = "exhaustive/walk.rs"]
mod walk;
#[path = "exhaustive/words.rs"]
mod words;

const PAGE: &str = "docs/architecture.md";
const BEGIN: &str = "<!-- table:begin -->\n";
const END: &str = "<!-- table:end -->";

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let table = walk::everything().to_string();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("docs/architecture.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the marker of the table's begin");
    let (written, after) = rest.split_once(END).expect("the page has the marker of the table's end");
    if written == table {
        return;
    }
    if std::env::var_os("HANDOVER_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))
            .expect("the page can be written");
        return;
    }
    let differs = table.lines().zip(written.lines()).find(|(new, old)| new != old);
    panic!("the table in {PAGE} is stale: {differs:#?}\nhint: HANDOVER_BLESS=1 cargo test --test exhaustive");
}
