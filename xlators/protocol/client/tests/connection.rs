//! How a connection is made, kept and given up, against a brick whose every word is the test's.

mod peer;

use brickwork_api::xdata::UNCACHED;
use brickwork_api::*;
use brickwork_testkit::{cx, samples};
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::*;

use peer::{Door, PATIENCE_MS, Peer, Subject, attached, numbered, proves, soon, stat};

fn sample_stat() -> StatReply {
    let Reply::Stat(reply) = samples::reply(FopKind::Stat) else { panic!("no stat") };
    reply
}

async fn down(subject: &mut Subject) -> String {
    loop {
        match subject.event().await {
            Event::ChildDown { reason } => return reason,
            Event::InvalidateAll { .. } => {}
            event => panic!("{event:?} instead of an end"),
        }
    }
}

async fn up(subject: &mut Subject) {
    loop {
        match subject.event().await {
            Event::ChildUp => return,
            Event::InvalidateAll { .. } => {}
            event => panic!("{event:?} instead of a beginning"),
        }
    }
}

/// Attaches `cx` by a first request.
async fn attach(peer: &mut Peer, subject: &Subject, cx: &Cx, answer: Attached) -> AttachCall {
    let asked = subject.begin::<fop::Stat>(&numbered(cx, 0, 1), stat());
    let call = peer.attach(answer).await;
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_proven_and_does_not_travel() {
    let door = Door::open().await;
    let _subject = Subject::at(&door, &[("username", "anna"), ("password", "secret")]);
    let mut peer = door.accept().await;
    let hello = peer.greet().await;
    assert!(hello.process.name.contains("client-0"), "{:?}", hello.process);
    assert_eq!(hello.process.pid, std::process::id());
    let call = peer.choose(1).await;
    assert_eq!((call.name.as_str(), call.login.as_ref().map(|login| login.user.as_str())), ("b", Some("anna")));
    assert!(proves(&call, &hello, "secret") && !proves(&call, &hello, "Secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_upward_with_the_bricks_words_and_tried_again() {
    let door = Door::open().await;
    let mut subject = Subject::at(&door, &[]);
    let mut peer = door.accept().await;
    peer.greet().await;
    let (id, _) = peer.call().await;
    peer.refuse(id, Why::NotFound, "no such subvolume `b` (it serves: c)");
    let reason = down(&mut subject).await;
    let brick = format!("127.0.0.1:{}/b", door.port());
    assert_eq!(reason, format!("brick {brick} is not reachable: no such subvolume `b` (it serves: c)"));
    let status = subject.xlator.status();
    assert_eq!((&status["state"], &status["brick"]), (&"down".into(), &brick.into()));
    assert_eq!(status["reason"], "no such subvolume `b` (it serves: c)");
    door.admit(1).await;
    up(&mut subject).await;
    assert_eq!(subject.xlator.status()["reason"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_of_another_major_version_is_refused_with_the_reason() {
    let door = Door::open().await;
    let mut subject = Subject::at(&door, &[]);
    let mut peer = door.accept().await;
    let (id, _) = peer.call().await;
    let version = Version { major: 2, minor: 0 };
    let welcome = Welcome { version, features: 0, process: Process::default(), nonce: [0; 32], xdata: Xdata::EMPTY };
    peer.answer(id, Ok(Answer::Welcome(welcome)));
    let reason = down(&mut subject).await;
    assert!(reason.contains("the brick speaks protocol 2.0, this side 1."), "{reason}");
    peer.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_brick_is_waited_for_once_and_then_answers_enotconn_at_once_until_it_is_back() {
    let (port, cx) = (free_port(), cx());
    let text = port.to_string();
    let options = [
        ("remote-host", "127.0.0.1"),
        ("remote-port", text.as_str()),
        ("remote-subvolume", "b"),
        ("reconnect-wait", "1"),
    ];
    let mut subject = Subject::with(&options);
    let reason = down(&mut subject).await;
    assert_eq!(reason, format!("brick 127.0.0.1:{port}/b is not reachable: connection refused 127.0.0.1:{port}"));
    let begun = std::time::Instant::now();
    let waited = subject.begin::<fop::Stat>(&numbered(&cx, 0, 1), stat());
    let error = soon("the end of the wait", waited).await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::ENOTCONN);
    let said = format!("reason connection refused 127.0.0.1:{port}");
    assert!(error.to_string().contains(&said), "{error}");
    assert!(begun.elapsed().as_secs() < 5);
    // The wait is over for everybody: however often, these take less than one wait.
    let begun = std::time::Instant::now();
    for sequence in 2..100 {
        let at_once = subject.begin::<fop::Stat>(&numbered(&cx, 0, sequence), stat());
        assert_eq!(at_once.await.unwrap().unwrap_err().errno(), Errno::ENOTCONN);
    }
    assert!(begun.elapsed().as_millis() < 900, "{:?}", begun.elapsed());
    let status = subject.xlator.status();
    assert!(status["since_s"].as_f64() >= Some(1.0), "{status}");
}

/// A port that nobody listens on, for a moment at least.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_wait_reaches_those_who_wait_already() {
    let door = Door::open().await;
    let mut subject = Subject::at(&door, &[("reconnect-wait", "3600")]);
    let peer = door.admit(1).await;
    up(&mut subject).await;
    let port = door.port().to_string();
    drop(door);
    peer.cut();
    down(&mut subject).await;
    let waited = subject.begin::<fop::Stat>(&numbered(&cx(), 0, 1), stat());
    let options = [
        ("remote-host", "127.0.0.1"),
        ("remote-port", port.as_str()),
        ("remote-subvolume", "b"),
        ("reconnect-wait", "0"),
    ];
    subject.xlator.reconfigure(&options.into_iter().collect()).unwrap();
    let error = soon("the end of the wait", waited).await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::ENOTCONN);
    let refused = subject.xlator.reconfigure(&[("reconnect-wait", "soon")].into_iter().collect()).unwrap_err();
    assert!(!refused.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_the_same_secret_each_time() {
    let door = Door::open().await;
    let (subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    let first = attach(&mut peer, &subject, &cx, attached(1, false)).await;
    peer.cut();
    let mut peer = door.admit(1).await;
    let second = peer.attach(attached(1, true)).await;
    assert_eq!((second.client, second.secret), (first.client, first.secret));
    assert_ne!(first.secret, [0; 32]);
    assert_eq!((first.incarnation, second.incarnation), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_brick_refuses_is_told_why_and_others_go_on() {
    let door = Door::open().await;
    let (subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    attach(&mut peer, &subject, &cx, attached(1, false)).await;
    let other = brickwork_testkit::cx();
    let asked = subject.begin::<fop::Stat>(&numbered(&other, 0, 1), stat());
    let (id, _) = peer.call().await;
    peer.refuse(id, Why::Identity, "another client has shown another secret");
    // Whoever waits learns it at its next look.
    let again = subject.begin::<fop::Stat>(&numbered(&cx, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    again.await.unwrap().unwrap();
    let error = soon("the refusal", asked).await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::ENOTCONN);
    assert!(error.to_string().contains("another client has shown another secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_goes_up_and_is_acknowledged_when_the_last_one_has_dropped_what_it_kept() {
    let door = Door::open().await;
    let (mut subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    attach(&mut peer, &subject, &cx, attached(3, false)).await;
    let notice = Notice::Invalidate { gfid: samples::FILE, names: true };
    peer.send(Prefix::new(Kind::Notice, 77).of(0, 3), &notice);
    let Event::Invalidate { gfid, names, hold } = subject.event().await else { panic!("no invalidation") };
    assert_eq!((gfid, names), (samples::FILE, true));
    let clone = hold.clone();
    drop(hold);
    // A request that overtakes the acknowledgement shows that none was sent.
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
    drop(clone);
    let noticed = peer.frame().await.prefix;
    assert_eq!((noticed.kind, noticed.id, noticed.session), (Kind::Noticed, 77, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_brick_is_no_longer_believed_and_then_given_up() {
    let door = Door::open().await;
    let (mut subject, cx) = (Subject::at(&door, &[("ping-timeout", "2")]), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    let answer = Attached { invalidate_timeout_ms: 600, ..attached(1, false) };
    peer.pings = false;
    attach(&mut peer, &subject, &cx, answer).await;
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    // What it says now is not kept.
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    assert_eq!(asked.await.unwrap().unwrap().xdata.get(&UNCACHED), Ok(Some(true)));
    let reason = down(&mut subject).await;
    assert!(reason.contains("it has answered no ping for 2 s"), "{reason}");
    peer.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_ping_ends_a_silence_and_what_was_kept_meanwhile_is_old() {
    let door = Door::open().await;
    let (mut subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    let answer = Attached { invalidate_timeout_ms: 300, ..attached(1, false) };
    peer.pings = false;
    attach(&mut peer, &subject, &cx, answer).await;
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    peer.pings = true;
    let pinged = async {
        loop {
            let frame = peer.inbox.next().await.unwrap().unwrap();
            if frame.prefix.kind == Kind::Ping {
                peer.send(Prefix::new(Kind::Pong, frame.prefix.id), &());
            }
        }
    };
    tokio::select! {
        event = subject.event() => assert!(matches!(event, Event::InvalidateAll { .. })),
        () = pinged => {}
    }
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_go_out_every_third_of_what_the_brick_waits_for() {
    let door = Door::open().await;
    let (subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    let answer = Attached { detach_timeout_ms: 600, ..attached(1, false) };
    attach(&mut peer, &subject, &cx, answer).await;
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        let frame = soon("a ping", peer.inbox.next()).await.unwrap().unwrap();
        assert_eq!(frame.prefix.kind, Kind::Ping);
        peer.send(Prefix::new(Kind::Pong, frame.prefix.id), &());
    }
    // Half of four thirds of 600 ms: a machine that stalls brings the last one nearer to the first.
    let elapsed = begun.elapsed().as_millis();
    assert!(elapsed >= 400, "five pings in {elapsed} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_answers_pings_too() {
    let door = Door::open().await;
    let _subject = Subject::at(&door, &[]);
    let mut peer = door.admit(1).await;
    peer.send(Prefix::new(Kind::Ping, 9), &());
    let pong = peer.frame().await.prefix;
    assert_eq!((pong.kind, pong.id), (Kind::Pong, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_that_leaves_answers_what_it_has_begun_and_is_left_at_once() {
    let door = Door::open().await;
    let (mut subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    attach(&mut peer, &subject, &cx, attached(1, false)).await;
    let begun = subject.begin::<fop::Stat>(&numbered(&cx, 1, 1), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.send(Prefix::new(Kind::Notice, 0), &Notice::Leaving { reason: "SIGTERM".to_owned() });
    // The answer to a ping comes after the notice was read.
    peer.send(Prefix::new(Kind::Ping, 1), &());
    assert_eq!(peer.frame().await.prefix.kind, Kind::Pong);
    let later = subject.begin::<fop::Stat>(&numbered(&cx, 2, 1), stat());
    peer.reply(to, &sample_stat());
    soon("what was begun", begun).await.unwrap().unwrap();
    let reason = down(&mut subject).await;
    assert!(reason.contains("the brick is going down: SIGTERM"), "{reason}");
    peer.ended().await;
    let mut peer = door.admit(2).await;
    peer.attach(attached(1, true)).await;
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    soon("what came later", later).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_says_goodbye_for_every_session_and_waits_for_the_answers() {
    let door = Door::open().await;
    let (mut subject, one, other) = (Subject::at(&door, &[]), cx(), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    attach(&mut peer, &subject, &one, attached(1, false)).await;
    attach(&mut peer, &subject, &other, attached(2, false)).await;
    let xlator = subject.xlator.clone();
    let stopped = tokio::spawn(async move { xlator.stop().await });
    let mut gone = Vec::new();
    for _ in 0..2 {
        let (id, call) = peer.call().await;
        let Call::Goodbye(goodbye) = call else { panic!("{call:?} instead of a goodbye") };
        gone.push(goodbye.session);
        assert!(!stopped.is_finished());
        peer.answer(id, Ok(Answer::Goodbye));
    }
    gone.sort_unstable();
    assert_eq!(gone, [1, 2]);
    peer.ended().await;
    soon("the end", stopped).await.unwrap();
    let late = subject.begin::<fop::Stat>(&numbered(&one, 0, 2), stat());
    assert_eq!(soon("an answer", late).await.unwrap().unwrap_err().errno(), Errno::ENOTCONN);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_brick_that_is_away_or_mute() {
    let port = free_port().to_string();
    let subject = Subject::with(&[("remote-host", "127.0.0.1"), ("remote-port", &port), ("remote-subvolume", "b")]);
    soon("the end", subject.xlator.stop()).await;
    let door = Door::open().await;
    let (mut subject, cx) = (Subject::at(&door, &[]), cx());
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    attach(&mut peer, &subject, &cx, attached(1, false)).await;
    soon("the end", subject.xlator.stop()).await;
    soon("a second end", subject.xlator.stop()).await;
    peer.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_that_talks_nonsense_is_left() {
    let door = Door::open().await;
    let mut subject = Subject::at(&door, &[]);
    let mut peer = door.admit(1).await;
    up(&mut subject).await;
    peer.send(Prefix::new(Kind::Request, 1), &());
    let reason = down(&mut subject).await;
    assert!(reason.contains("not spoken in this protocol: an unexpected Request"), "{reason}");
    peer.ended().await;
    let peer = door.admit(1).await;
    up(&mut subject).await;
    // An id that nobody waits for, and the end of the patience.
    peer.send(Prefix::new(Kind::Answer, 1 << 40), &());
    peer.send(Prefix::new(Kind::Notice, 1), &PATIENCE_MS);
    down(&mut subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_spoken_to_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let options = [
        ("transport-type", "unix"),
        ("transport.socket.connect-path", path.to_str().unwrap()),
        ("remote-subvolume", "b"),
    ];
    let mut subject = Subject::with(&options);
    let (socket, _) = soon("a connection", listener.accept()).await.unwrap();
    let (outbox, inbox) = brickwork_wire::connection::open(brickwork_wire::stream::Stream::Unix(socket));
    let mut peer = Peer::new(outbox, inbox);
    peer.greet().await;
    peer.choose(1).await;
    up(&mut subject).await;
    attach(&mut peer, &subject, &cx(), attached(1, false)).await;
    assert_eq!(subject.xlator.status()["brick"], format!("{}/b", path.display()));
}
