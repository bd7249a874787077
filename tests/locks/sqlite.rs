//! sqlite3 on one database through two mounts: its rollback journal and its locks are all that keeps eight writers apart.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::brick::Brick;
use crate::common::{Mounted, can_mount, needs, rounds, run};
use crate::proxy::{Fault, Proxy};

/// Writers on each of the two mounts.
const WRITERS: usize = 4;
/// How long sqlite3 waits for the locks of others before it says that the database is busy, and how long a test waits for
/// an answer.
const BUSY: Duration = Duration::from_secs(120);

/// A sqlite3 process that inserts numbered rows, each in a transaction that also increments the one counter.
struct Writer {
    number: usize,
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    fn on(database: &Path, number: usize) -> Writer {
        let mut process = Command::new("sqlite3")
            .arg("-batch")
            .arg("-bail")
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sqlite3");
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut writer = Writer { number, process, answers };
        writer.say(&format!(".timeout {}", BUSY.as_millis()));
        writer
    }

    fn say(&mut self, statements: &str) {
        let stdin = self.process.stdin.as_mut().expect("a pipe");
        // One that has ended is noticed by its answer.
        let _ = writeln!(stdin, "{statements}").and_then(|()| stdin.flush());
    }

    /// Inserts `row`, and returns when that is acknowledged.
    fn insert(&mut self, row: u64) {
        let number = self.number;
        self.say(&format!(
            "begin immediate; insert into lines values({number}, {row}); update counter set value = value + 1; commit; \
             select {row};"
        ));
        let limit = Timespec { tv_sec: BUSY.as_secs() as i64, tv_nsec: 0 };
        let stdout = self.answers.get_ref().as_fd();
        let answered = poll(&mut [PollFd::from_borrowed_fd(stdout, PollFlags::IN)], Some(&limit)).expect("poll") == 1;
        assert!(answered, "writer {number} is not answered within {BUSY:?}");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("a pipe");
        if answer.trim_end() != row.to_string() {
            panic!("writer {number}, row {row}: `{answer}`, {}", self.last_words());
        }
    }

    fn last_words(&mut self) -> String {
        let mut words = String::new();
        drop(self.process.stdin.take());
        self.process.stderr.take().expect("a pipe").read_to_string(&mut words).expect("what it says");
        words
    }

    /// Inserts rows until `end`, one at least; how many.
    fn work(mut self, end: Instant) -> u64 {
        let mut rows = 0;
        while rows == 0 || Instant::now() < end {
            self.insert(rows);
            rows += 1;
        }
        let words = self.last_words();
        let status = self.process.wait().expect("its end");
        assert!(status.success() && words.is_empty(), "writer {}: {status}, {words}", self.number);
        rows
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It has ended by itself unless the test fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(database: &Path, statement: &str) -> String {
    run(Command::new("sqlite3").arg("-batch").arg("-bail").arg(database).arg(statement)).trim().to_owned()
}

/// Lets eight writers work for some time, in which `trouble` is made `times` times.
fn write(times: usize, mut trouble: impl FnMut(&mut Brick, &Proxy)) {
    if !needs("sqlite3") {
        return;
    }
    let Some(mut brick) = Brick::start().filter(|_| can_mount()) else { return };
    let proxy = Proxy::to(brick.address());
    let client = brick.client_at(proxy.port(), "");
    let Some(first) = Mounted::client(&client, &[]) else { return };
    let Some(second) = Mounted::client(&client, &[]) else { return };
    let databases = [first.path().join("lines.db"), second.path().join("lines.db")];
    let made = ask(
        &databases[0],
        "pragma journal_mode=delete; create table lines(writer integer, number integer);
         create table counter(value integer); insert into counter values(0);",
    );
    assert_eq!(made, "delete");
    let span = Duration::from_secs(rounds(5, 60) as u64);
    let begun = Instant::now();
    let writers: Vec<_> = (0..2 * WRITERS)
        .map(|number| {
            let database = databases[number % 2].clone();
            std::thread::spawn(move || Writer::on(&database, number).work(begun + span))
        })
        .collect();
    for _ in 0..times {
        std::thread::sleep(span / (times as u32 + 1));
        trouble(&mut brick, &proxy);
    }
    let acknowledged: Vec<u64> = writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
    eprintln!("rows by writer: {acknowledged:?}, {:.1?}", begun.elapsed());
    // As each mount sees it, and as it lies on the brick.
    databases.iter().for_each(|database| expect_whole(database, &acknowledged));
    first.unmount();
    second.unmount();
    brick.wait_for_locks("held", 0);
    expect_whole(&brick.directory().join("lines.db"), &acknowledged);
    let left: Vec<PathBuf> = std::fs::read_dir(brick.directory())
        .expect("the brick")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains("-journal"))
        .collect();
    assert_eq!(left, [] as [PathBuf; 0], "nothing was in the middle of a transaction");
}

/// Every acknowledged row is there once and no other, and each was counted.
fn expect_whole(database: &Path, acknowledged: &[u64]) {
    assert_eq!(ask(database, "pragma integrity_check;"), "ok", "{}", database.display());
    let rows = ask(database, "select writer, number from lines order by writer, number;");
    let rows: Vec<&str> = rows.lines().collect();
    let expected: Vec<String> = acknowledged
        .iter()
        .enumerate()
        .flat_map(|(writer, rows)| (0..*rows).map(move |number| format!("{writer}|{number}")))
        .collect();
    let missing: Vec<_> = expected
        .iter()
        .map(String::as_str)
        .collect::<BTreeSet<_>>()
        .difference(&rows.iter().copied().collect())
        .copied()
        .collect();
    assert!(missing.is_empty(), "{}: acknowledged and not there: {missing:?}", database.display());
    assert!(rows == expected, "{}: {} rows, of {} acknowledged", database.display(), rows.len(), expected.len());
    assert_eq!(ask(database, "select value from counter;"), rows.len().to_string(), "{}", database.display());
}

#[test]
fn eight_writers_through_two_mounts_lose_no_row_and_no_count_of_a_database() {
    write(0, |_, _| {});
}

#[test]
fn a_brick_that_is_killed_under_eight_writers_of_a_database_is_noticed_by_none() {
    write(rounds(1, 5), |brick, _| {
        brick.kill9();
        brick.start_again();
    });
}

#[test]
fn a_brick_that_loses_its_locks_under_eight_writers_of_a_database_is_noticed_by_none() {
    write(rounds(1, 5), |brick, _| {
        brick.stop();
        std::fs::remove_dir_all(brick.lock_journal().join("journal")).expect("the journal of the locks");
        brick.start_again();
    });
}

#[test]
fn connections_that_break_under_eight_writers_of_a_database_are_noticed_by_none() {
    write(rounds(20, 200), |_, proxy| proxy.strike(Fault::Reset));
}
