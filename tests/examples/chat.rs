//! The chat: everybody hears everything, in a rollout, too, and nobody is thrown out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::program::Alone;
use crate::socket::{Frame, Socket, say};
use crate::stage::{End, Stage};
use crate::support::client::get;
use crate::support::eventually;

/// Who moves closes the old connection when it has heard so many posts on both. The page waits for a while instead.
const OVERLAP: u64 = 20;

/// What somebody in the room has heard, and by whom it was served.
#[derive(Default)]
struct Heard {
    /// Ids of posts, and their texts, each once.
    posts: BTreeMap<String, String>,
    /// By sender, in the order in which they came.
    order: BTreeMap<String, Vec<u64>>,
    workers: Vec<String>,
    /// Posts that came on two connections.
    twice: u64,
    /// Connections that the server ended.
    thrown_out: u64,
}

/// Somebody in the room, as the page is: moves when it is told to, keeping the old connection until the new one is there.
struct Person {
    host: String,
    path: String,
    moves: bool,
    heard: Arc<Mutex<Heard>>,
    speaker: Arc<Mutex<Option<TcpStream>>>,
    leaves: Arc<AtomicBool>,
}

impl Person {
    fn new(stage: &Stage, name: &str, moves: bool) -> Arc<Self> {
        let path = format!("/rooms/lobby/{name}");
        Arc::new(Self {
            host: stage.host(),
            path,
            moves,
            heard: Arc::default(),
            speaker: Arc::default(),
            leaves: Arc::default(),
        })
    }

    /// Joins, and listens until its connection ends.
    fn join(self: &Arc<Self>) -> JoinHandle<()> {
        let mut socket = Socket::open(&self.host, &self.path);
        self.welcomed(&mut socket);
        let person = Arc::clone(self);
        std::thread::spawn(move || person.listen(socket))
    }

    fn welcomed(&self, socket: &mut Socket) {
        let Frame::Told(told) = socket.next() else { panic!("no welcome") };
        assert_eq!(told["type"], "welcome");
        // First the place to listen, then the place to speak: what is said from now on is said there.
        self.heard().workers.push(told["worker"].as_str().expect("text").to_owned());
        *self.speaker.lock().expect("nobody panics") = Some(socket.speaker());
    }

    fn listen(self: Arc<Self>, mut socket: Socket) {
        let mut next = None;
        let mut enough = u64::MAX;
        loop {
            match socket.next() {
                Frame::Told(told) if told["type"] == "post" => {
                    if self.take(&told) >= enough {
                        let _ = socket.speaker().shutdown(std::net::Shutdown::Write);
                    }
                }
                Frame::Told(told) if told["type"] == "moving" => {
                    if self.moves {
                        let mut other = Socket::open(&self.host, &self.path);
                        self.welcomed(&mut other);
                        enough = self.heard().twice + OVERLAP;
                        // Both listen for a while: what the new worker heard before this may still be on its way to the old one.
                        let person = Arc::clone(&self);
                        next = Some(std::thread::spawn(move || person.listen(other)));
                    }
                }
                Frame::Told(told) => panic!("{told}"),
                Frame::Closes(_) | Frame::Ended => break,
            }
        }
        if next.is_none() && !self.leaves.load(Ordering::SeqCst) {
            self.heard().thrown_out += 1;
        }
        if let Some(next) = next {
            next.join().expect("nobody panics");
        }
    }

    /// Takes a post, and gives how many came twice so far.
    fn take(&self, told: &Value) -> u64 {
        let text = |key: &str| told[key].as_str().expect("text").to_owned();
        let mut heard = self.heard();
        if heard.posts.insert(text("id"), text("text")).is_none() {
            let number = text("text").parse().expect("a number");
            heard.order.entry(text("from")).or_default().push(number);
        } else {
            heard.twice += 1;
        }
        heard.twice
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panics")
    }

    /// Whether it is with a worker of generation 2. It may have met a second old one on the way.
    fn is_moved(&self) -> bool {
        self.heard().workers.last().is_some_and(|worker| worker.contains("generation 2"))
    }

    fn leave(&self) {
        self.leaves.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.speaker.lock().expect("nobody panics") {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Says the next number, and waits until it has heard that itself.
    fn say(&self, number: u64) {
        say(
            self.speaker.lock().expect("nobody panics").as_ref().expect("it has joined"),
            &number.to_string(),
        );
        let name = self.path.rsplit('/').next().expect("a name");
        eventually("it hears itself", || {
            (self.heard().order.get(name).and_then(|said| said.last()) == Some(&number)).then_some(())
        });
    }
}

/// People in one room, and the threads in which they listen.
struct Room {
    people: Vec<Arc<Person>>,
    listening: Vec<JoinHandle<()>>,
}

impl Room {
    /// Fills it until somebody is with each worker. The last one does not move when it is told to.
    fn fill(stage: &Stage) -> Self {
        let mut room = Self { people: Vec::new(), listening: Vec::new() };
        let mut met = BTreeSet::new();
        while met.len() < 3 || room.people.len() < 12 {
            assert!(room.people.len() < 500, "connections are shared: {met:?}");
            let person = room.join(Person::new(stage, &format!("p{}", room.people.len()), true));
            met.extend(person.heard().workers.iter().cloned());
        }
        room.join(Person::new(stage, "stubborn", false));
        room
    }

    fn join(&mut self, person: Arc<Person>) -> Arc<Person> {
        self.listening.push(person.join());
        self.people.push(Arc::clone(&person));
        person
    }

    fn stubborn(&self) -> &Person {
        self.people.last().expect("it is the last")
    }

    /// Seven of them talk while `meanwhile` goes on, which is given what waits until more was said. Gives how much was said.
    fn talk(&self, meanwhile: impl FnOnce(&dyn Fn())) -> usize {
        let (over, said) = (AtomicBool::new(false), AtomicUsize::new(0));
        let say = |person: &Person| {
            for number in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                person.say(number);
                said.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(10));
            }
        };
        std::thread::scope(|scope| {
            let end = End(&over);
            let speakers = self.people[..6].iter().map(|person| &**person).chain([self.stubborn()]);
            let speaking: Vec<_> = speakers.map(|person| scope.spawn(move || say(person))).collect();
            meanwhile(&|| {
                let before = said.load(Ordering::Relaxed);
                eventually("they talk", || (said.load(Ordering::Relaxed) > before + 50).then_some(()));
            });
            drop(end);
            speaking.into_iter().for_each(|speaker| speaker.join().expect("each hears itself"));
        });
        said.into_inner()
    }

    /// That each has heard all that was said, once, and in the order in which each said it.
    #[track_caller]
    fn assert_all_heard(&self, said: usize) {
        for person in &self.people {
            eventually("all is heard by all", || (person.heard().posts.len() >= said).then_some(()));
            let heard = person.heard();
            assert_eq!((heard.posts.len(), heard.thrown_out), (said, 0), "{}", person.path);
            for (from, numbers) in &heard.order {
                let is_in_order = numbers.iter().copied().eq(1..=numbers.len() as u64);
                assert!(is_in_order, "{} of {from}: {numbers:?}", person.path);
            }
        }
    }

    fn leave(self) {
        self.people.iter().for_each(|person| person.leave());
        self.listening.into_iter().for_each(|thread| thread.join().expect("nobody panics"));
    }
}

#[test]
fn everybody_in_a_room_hears_everything_in_order_through_a_rollout_and_nobody_is_thrown_out() {
    let Some(stage) = Stage::new("chat", &[]) else { return };
    let mut daemon = stage.start();
    assert!(get(&stage.address, "/").expect("an answer").body.contains("</html>"));
    let room = Room::fill(&stage);
    let said = room.talk(|wait_for_more| {
        wait_for_more();
        stage.install();
        daemon.cli(&["reload"]).assert_code(handover::exit::DONE);
        wait_for_more();
        // Who is new meets the new generation.
        let late = Person::new(&stage, "late", true);
        let listening = late.join();
        assert!(late.is_moved());
        late.leave();
        listening.join().expect("nobody panics");
        eventually("all that move have moved", || {
            room.people.iter().all(|person| person.is_moved() == person.moves).then_some(())
        });
        wait_for_more();
    });
    room.assert_all_heard(said);
    // It is still where it was, and its worker waits for it alone.
    assert!(!room.stubborn().is_moved());
    let old = || daemon.status().workers("chat").into_iter().filter(|worker| worker.generation == 1).count();
    eventually("one old worker is left", || (old() == 1).then_some(()));
    room.leave();
    daemon.settle();
    assert_eq!(old(), 0);
    daemon.stop();
}

#[test]
fn who_does_not_move_is_told_goodbye_when_the_time_is_over() {
    let Some(stage) = Stage::new("chat", &[]) else { return };
    stage.edit("chat.toml", "10min", "5s");
    let mut daemon = stage.start();
    let mut socket = Socket::open(&stage.host(), "/rooms/lobby/ann");
    daemon.cli(&["restart"]).assert_code(handover::exit::DONE);
    let mut types = Vec::new();
    let code = loop {
        match socket.next() {
            Frame::Told(told) => types.push(told["type"].as_str().expect("text").to_owned()),
            Frame::Closes(code) => break code,
            Frame::Ended => panic!("cut after {types:?}"),
        }
    };
    assert_eq!((types, code), (vec!["welcome".to_owned(), "moving".to_owned()], 1012));
    daemon.settle();
    daemon.stop();
}

#[test]
fn the_chat_runs_alone_and_takes_no_scripts_of_other_sites() {
    let Some(stage) = Stage::new("chat", &[]) else { return };
    let alone = Alone::start(Command::new(stage.program()).env("LISTEN", stage.host()));
    eventually("it listens", || TcpStream::connect(stage.host()).ok());
    let host = stage.host();
    let origin =
        |site: &str| Socket::handshake(&host, "/rooms/lobby/eve", &format!("Origin: http://{site}\r\n")).0;
    assert!(origin("other.example").contains(" 403 "));
    assert!(origin(&host).contains(" 101 "));
    assert!(Socket::handshake(&host, "/rooms/%20/eve", "").0.contains(" 400 "));
    let people = ["ann", "bob"].map(|name| Person::new(&stage, name, false));
    let listening = people.each_ref().map(Person::join);
    people[0].say(1);
    eventually("the other hears it", || (people[1].heard().posts.len() == 1).then_some(()));
    assert!(people[1].heard().workers[0].starts_with("alone"));
    people.iter().for_each(|person| person.leave());
    listening.into_iter().for_each(|thread| thread.join().expect("nobody panics"));
    alone.ends_well();
}
