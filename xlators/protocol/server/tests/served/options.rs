//! Every option of the server says what it is, and a test here speaks of it.

const SOURCES: &[&str] = &[
    include_str!("admission.rs"),
    include_str!("coherence.rs"),
    include_str!("drain.rs"),
    include_str!("flow.rs"),
    include_str!("listening.rs"),
    include_str!("locks.rs"),
    include_str!("repeats.rs"),
    include_str!("sessions.rs"),
    include_str!("world.rs"),
    // What is set on a socket is looked at beside the code that sets it.
    include_str!("../../src/listen.rs"),
];

/// Options that stand in other files: the rules of who may come have tests of their own, and TLS is the wire's.
const ELSEWHERE: &[&str] = &["auth.", "transport.socket.ssl-", "transport.socket.own-"];

/// Only that it is set somewhere in a test; what it does there is for the reader of that test to judge.
#[test]
fn every_option_is_documented_and_set_by_a_test() {
    let specs = brickwork_server::TYPE.options;
    let ours = specs.iter().filter(|spec| !ELSEWHERE.iter().any(|prefix| spec.key.starts_with(prefix)));
    let mut count = 0;
    for spec in ours {
        count += 1;
        assert!(!spec.doc.trim().is_empty(), "`{}` says nothing", spec.key);
        let is_set = format!("(\"{}\",", spec.key);
        assert!(SOURCES.iter().any(|source| source.contains(&is_set)), "no test sets `{}`", spec.key);
    }
    assert!(count >= 30, "{count} options");
}
