//! What the journal of a subvolume holds, and the state that it tells of.
//!
//! Pure. A record is a version byte and the encoding of [`Record`], whose variants are only ever added at the end.
//! Whatever is applied in the order in which it was written gives the state of that moment.

use std::collections::{BTreeMap, HashMap};

use brickwork_api::{Bytes, ClientId, FopKind, OpenId};
use brickwork_codec::{decode, encode_into};
use serde::{Deserialize, Serialize};

use super::Answer;
use super::intent::Intent;
use super::opens::OpenRecord;
use super::slots::Remembered;

/// The layout of records.
const VERSION: u8 = 1;

/// The number of a session of a client, unique in the journal: one that comes after a goodbye is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionNumber(pub u64);

/// The name of a request within the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestKey {
    /// The session.
    pub session: SessionNumber,
    /// The slot.
    pub slot: u32,
    /// The sequence.
    pub sequence: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// The brick started.
    Boot {
        /// How often it has.
        number: u64,
    },
    /// A client's session began or its incarnations changed.
    Attached {
        /// The client.
        client: ClientId,
        /// Its session.
        session: SessionNumber,
        /// The sha256 of its secret.
        secret: [u8; 32],
        /// The highest incarnation.
        highest: u32,
        /// Those that are live.
        live: Vec<u32>,
    },
    /// A session ended.
    Gone {
        /// The session.
        session: SessionNumber,
    },
    /// An open of a request without a number.
    Opened {
        /// Whose.
        session: SessionNumber,
        /// The open.
        open: OpenId,
        /// What it is.
        record: OpenRecord,
    },
    /// An open was released.
    Closed {
        /// Whose.
        session: SessionNumber,
        /// The open.
        open: OpenId,
    },
    /// A fop that cannot be done twice begins.
    Intent {
        /// The request.
        key: RequestKey,
        /// The fop.
        kind: FopKind,
        /// What it will do.
        intent: Intent,
    },
    /// A fop was done.
    Answered {
        /// The request.
        key: RequestKey,
        /// The fop.
        kind: FopKind,
        /// Whether the answer is an error.
        failure: bool,
        /// The answer's encoding.
        header: Bytes,
        /// What it opened.
        opened: Option<(OpenId, OpenRecord)>,
    },
    /// A fop that had begun was not done.
    Forgotten {
        /// The request.
        key: RequestKey,
    },
}

impl Record {
    /// The record as it is written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(VERSION);
        encode_into(self, &mut bytes);
        bytes
    }

    /// The record in `bytes`.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn decode(bytes: &[u8]) -> Result<Record, String> {
        match bytes.split_first() {
            Some((&VERSION, record)) => decode(record).map_err(|error| format!("a record is damaged: {error}")),
            Some((version, _)) => Err(format!("a record has layout {version}, this release knows {VERSION}")),
            None => Err("a record is empty".to_owned()),
        }
    }
}

/// What a journal tells of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionImage {
    /// The client.
    pub client: ClientId,
    /// The sha256 of its secret.
    pub secret: [u8; 32],
    /// The highest incarnation.
    pub highest: u32,
    /// Those that are live.
    pub live: Vec<u32>,
    /// What it has open.
    pub opens: BTreeMap<OpenId, OpenRecord>,
    /// The last answer of each slot.
    pub slots: BTreeMap<u32, Remembered>,
}

/// A fop of which the journal does not say how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The request.
    pub key: RequestKey,
    /// The fop.
    pub kind: FopKind,
    /// What it was to do.
    pub intent: Intent,
}

/// What a journal tells.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// How often the brick has started.
    pub boot: u64,
    /// The sessions.
    pub sessions: BTreeMap<SessionNumber, SessionImage>,
    /// What was under way, oldest first.
    undecided: BTreeMap<u64, Undecided>,
    places: HashMap<RequestKey, u64>,
    next_place: u64,
}

impl State {
    /// Nothing but the number of starts.
    #[must_use]
    pub fn of_boot(boot: u64) -> State {
        State { boot, ..State::default() }
    }

    /// Replays one record. What belongs to a session that is gone is passed over: its fops ended after it.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Boot { number } => self.boot = number,
            Record::Attached { client, session, secret, highest, live } => {
                let image = self.sessions.entry(session).or_insert_with(|| SessionImage::new(client));
                (image.secret, image.highest, image.live) = (secret, highest, live);
            }
            Record::Gone { session } => self.end(session),
            Record::Opened { session, open, record } => self.opened(session, Some((open, record))),
            Record::Closed { session, open } => {
                if let Some(image) = self.sessions.get_mut(&session) {
                    image.opens.remove(&open);
                }
            }
            Record::Intent { key, kind, intent } => self.begin(Undecided { key, kind, intent }),
            Record::Answered { key, kind, failure, header, opened } => {
                self.forget(key);
                self.opened(key.session, opened);
                self.answered(key, kind, Answer { failure, header, payload: Bytes::new() });
            }
            Record::Forgotten { key } => self.forget(key),
        }
    }

    /// What was under way, oldest first.
    pub fn undecided(&self) -> impl Iterator<Item = &Undecided> {
        self.undecided.values()
    }

    /// Forgets everything but the number of starts.
    pub fn lose(&mut self) {
        *self = State::of_boot(self.boot);
    }

    /// Notes a fop that begins, in place of one under the same name that was not done.
    pub fn begin(&mut self, undecided: Undecided) {
        let key = undecided.key;
        if !self.sessions.contains_key(&key.session) {
            return;
        }
        self.forget(key);
        self.undecided.insert(self.next_place, undecided);
        self.places.insert(key, self.next_place);
        self.next_place += 1;
    }

    fn end(&mut self, session: SessionNumber) {
        self.sessions.remove(&session);
        self.undecided.retain(|_, undecided| undecided.key.session != session);
        self.places.retain(|key, _| key.session != session);
    }

    fn opened(&mut self, session: SessionNumber, opened: Option<(OpenId, OpenRecord)>) {
        if let (Some(image), Some((open, record))) = (self.sessions.get_mut(&session), opened) {
            image.opens.insert(open, record);
        }
    }

    fn forget(&mut self, key: RequestKey) {
        if let Some(place) = self.places.remove(&key) {
            self.undecided.remove(&place);
        }
    }

    fn answered(&mut self, key: RequestKey, kind: FopKind, answer: Answer) {
        let Some(image) = self.sessions.get_mut(&key.session) else { return };
        let newer = image.slots.get(&key.slot).is_some_and(|remembered| remembered.sequence > key.sequence);
        if !newer {
            image.slots.insert(key.slot, Remembered { slot: key.slot, sequence: key.sequence, kind, answer });
        }
    }
}

impl SessionImage {
    fn new(client: ClientId) -> SessionImage {
        SessionImage {
            client,
            secret: [0; 32],
            highest: 0,
            live: Vec::new(),
            opens: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// Records that make `session` as it is here.
    #[must_use]
    pub fn records(&self, session: SessionNumber) -> Vec<Record> {
        let SessionImage { client, secret, highest, live, opens, slots } = self;
        let (client, secret, highest) = (*client, *secret, *highest);
        let mut records = vec![Record::Attached { client, session, secret, highest, live: live.clone() }];
        records.extend(opens.iter().map(|(open, record)| Record::Opened { session, open: *open, record: *record }));
        records.extend(slots.values().map(|remembered| answered(session, remembered)));
        records
    }
}

fn answered(session: SessionNumber, remembered: &Remembered) -> Record {
    let Remembered { slot, sequence, kind, answer } = remembered;
    let key = RequestKey { session, slot: *slot, sequence: *sequence };
    Record::Answered { key, kind: *kind, failure: answer.failure, header: answer.header.clone(), opened: None }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
