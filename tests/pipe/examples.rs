//! The two programs of `examples`, together.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::child::Child;
use crate::{PATIENCE, all};

fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("this program");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

#[test]
fn clients_of_the_acceptor_are_served_by_one_server_after_the_other() {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("servers");
    let mut command = Command::new(example("pipe_acceptor"));
    command.arg("127.0.0.1:0").arg(&socket).stdout(Stdio::piped());
    let mut acceptor = Child::of(command);
    let address = acceptor.first_line();
    let client = || {
        let client = TcpStream::connect(&address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    };
    // This one comes before there is a server.
    let mut early = Some(client());
    for _ in 0..3 {
        let mut command = Command::new(example("pipe_server"));
        command.arg(&socket);
        let mut server = Child::of(command);
        for _ in 0..5 {
            let client = early.take().unwrap_or_else(client);
            let expected =
                format!("{} is served by process {}\n", client.local_addr().unwrap(), server.pid());
            assert_eq!(all(client), expected);
        }
        server.kill();
        early = Some(client());
    }
}
