use std::time::Duration;

use brickwork_testkit::block_on;
use brickwork_wire::message::Why;

use super::super::world::{CLIENT, World, attach, call};
use super::*;

#[test]
fn a_client_is_known_by_its_secret_over_a_restart() {
    let world = World::new("process");
    let sessions = world.start();
    assert!(!sessions.attach(&call(CLIENT, 1)).unwrap().known);
    let stranger = AttachCall { secret: [0; 32], ..call(CLIENT, 2) };
    assert_eq!(sessions.attach(&stranger).unwrap_err().why, Why::Identity);
    let boot = sessions.boot();
    drop(sessions);
    let sessions = world.start();
    assert_eq!(sessions.boot(), boot + 1);
    assert_eq!(sessions.attach(&stranger).unwrap_err().why, Why::Identity);
    assert_eq!(sessions.attach(&call(CLIENT, 1)).unwrap_err().why, Why::Identity);
    assert!(sessions.attach(&call(CLIENT, 2)).unwrap().known);
}

#[test]
fn a_session_ends_with_its_last_incarnation_and_releases_what_it_had_open() {
    let world = World::new("process");
    let sessions = world.start();
    let session = attach(&sessions, CLIENT, 1);
    let keeping = AttachCall { keep: vec![1], ..call(CLIENT, 2) };
    sessions.attach(&keeping).unwrap();
    session.opens.add(OpenId(1), OpenRecord::file(super::super::world::FILE.gfid, 2)).unwrap();
    assert!(sessions.goodbye(&session, 1).is_none());
    let ended = sessions.goodbye(&session, 2).unwrap();
    block_on(ended.put_away(&*world.leaf, &world.host));
    assert!(sessions.goodbye(&session, 2).is_none());
    let file = super::super::world::FILE;
    let flush = brickwork_api::FlushReq { file, xdata: Xdata::EMPTY };
    assert!(world.direct(brickwork_api::Fop::Flush(flush)).is_err());
    drop((session, sessions));
    assert!(!world.start().attach(&call(CLIENT, 3)).unwrap().known);
}

#[test]
fn a_client_that_stays_away_too_long_is_forgotten_and_one_that_comes_back_is_not() {
    let world = World::new("process");
    let sessions = world.start();
    let (away, back) = (attach(&sessions, CLIENT, 1), attach(&sessions, ClientId(8), 1));
    sessions.detach(&away, 1);
    sessions.detach(&back, 1);
    attach(&sessions, ClientId(8), 2);
    let start = Instant::now();
    let (early, late) = (start + Duration::from_secs(599), start + Duration::from_secs(601));
    assert!(sessions.0.overdue(early).is_empty() && sessions.0.end_overdue(CLIENT, early).is_none());
    assert_eq!(sessions.0.overdue(late), [CLIENT]);
    assert!(sessions.0.end_overdue(ClientId(8), late).is_none());
    assert_eq!(sessions.0.end_overdue(CLIENT, late).unwrap().0.client(), CLIENT);
    assert!(!sessions.knows(CLIENT) && sessions.knows(ClientId(8)));
}

#[test]
fn there_are_so_many_sessions_and_no_more() {
    let world = World::new("process");
    let map = [("clients-max", "2")].into_iter().collect();
    let options = ServerOptions::read(&map).unwrap();
    let sessions = Sessions::<u32>::open(&options, Some(world.folder.path())).unwrap();
    attach(&sessions, ClientId(1), 1);
    attach(&sessions, ClientId(2), 1);
    assert_eq!(sessions.attach(&call(ClientId(3), 1)).unwrap_err().why, Why::Full);
    attach(&sessions, ClientId(1), 2);
}
