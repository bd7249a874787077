use super::*;
use brickwork_api::{Entry, Gfid, Name};
use proptest::prelude::*;

impl State {
    /// Records that give this state when they are applied to an empty one.
    fn records(&self) -> Vec<Record> {
        let mut records = vec![Record::Boot { number: self.boot }];
        for (session, image) in &self.sessions {
            records.extend(image.records(*session));
        }
        let intents = self.undecided().cloned();
        records.extend(intents.map(|Undecided { key, kind, intent }| Record::Intent { key, kind, intent }));
        records
    }
}

fn replay(records: &[Record]) -> State {
    let mut state = State::default();
    for record in records {
        // As they come from a disk.
        state.apply(Record::decode(&record.encode()).unwrap());
    }
    state
}

fn key(session: u64, slot: u32, sequence: u64) -> RequestKey {
    RequestKey { session: SessionNumber(session), slot, sequence }
}

fn attached(session: u64) -> Record {
    let (client, session) = (ClientId(u128::from(session)), SessionNumber(session));
    Record::Attached { client, session, secret: [7; 32], highest: 1, live: vec![1] }
}

fn intent(key: RequestKey) -> Record {
    let entry = Entry { parent: Gfid::ROOT, name: Name::new(b"name").unwrap() };
    Record::Intent { key, kind: FopKind::Unlink, intent: Intent::Remove { entry, gfid: Gfid::ROOT } }
}

fn answered(key: RequestKey) -> Record {
    let header = Bytes::copy_from_slice(&key.sequence.to_le_bytes());
    Record::Answered { key, kind: FopKind::Unlink, failure: false, header, opened: None }
}

#[test]
fn an_intent_is_undecided_until_it_is_answered_or_forgotten() {
    let (first, second) = (key(1, 0, 1), key(1, 1, 1));
    let begun = [attached(1), intent(first), intent(second)];
    assert_eq!(replay(&begun).undecided().map(|undecided| undecided.key).collect::<Vec<_>>(), [first, second]);
    let ended = [begun.to_vec(), vec![answered(second), Record::Forgotten { key: first }]].concat();
    assert_eq!(replay(&ended).undecided().count(), 0);
}

#[test]
fn an_answer_that_comes_after_that_of_a_later_request_decides_its_intent_and_changes_no_slot() {
    let (given_up, next) = (key(1, 0, 1), key(1, 0, 2));
    let state = replay(&[attached(1), intent(given_up), answered(next), answered(given_up)]);
    assert_eq!(state.undecided().count(), 0);
    assert_eq!(state.sessions[&SessionNumber(1)].slots[&0].sequence, 2);
}

#[test]
fn what_ends_after_its_session_is_passed_over() {
    let gone = Record::Gone { session: SessionNumber(1) };
    let state = replay(&[attached(1), intent(key(1, 0, 1)), gone, answered(key(1, 0, 1)), intent(key(1, 1, 1))]);
    assert_eq!(state.sessions.len() + state.undecided().count(), 0);
}

#[test]
fn a_record_of_another_layout_or_a_damaged_one_is_refused() {
    let mut bytes = attached(1).encode();
    assert_eq!(Record::decode(&bytes), Ok(attached(1)));
    bytes.pop();
    assert!(Record::decode(&bytes).is_err());
    assert!(Record::decode(&[]).is_err());
    assert_eq!(Record::decode(&[9, 0]).unwrap_err(), "a record has layout 9, this release knows 1");
}

#[test]
fn the_layout_of_a_record_is_what_it_was() {
    let bytes = Record::Closed { session: SessionNumber(2), open: OpenId(3) }.encode();
    assert_eq!(bytes, [1, 4, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
}

fn any_record() -> impl Strategy<Value = Record> {
    let keys = (1u64..4, 0u32..3, 1u64..6).prop_map(|(session, slot, sequence)| key(session, slot, sequence));
    let opens = (1u64..4, 0u64..4);
    let record = OpenRecord::file(Gfid::ROOT, 2);
    prop_oneof![
        (1u64..4).prop_map(attached),
        (1u64..4).prop_map(|session| Record::Gone { session: SessionNumber(session) }),
        opens.clone().prop_map(move |(session, open)| {
            Record::Opened { session: SessionNumber(session), open: OpenId(open), record }
        }),
        opens.prop_map(|(session, open)| Record::Closed { session: SessionNumber(session), open: OpenId(open) }),
        keys.clone().prop_map(intent),
        keys.clone().prop_map(answered),
        keys.prop_map(|key| Record::Forgotten { key }),
    ]
}

proptest! {
    /// A snapshot at any place, and what was written after it, tell what the whole journal tells.
    #[test]
    fn a_snapshot_at_any_moment_stands_for_all_before_it(
        records in prop::collection::vec(any_record(), 0..60),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(records.len() + 1);
        let snapshot = replay(&records[..at]).records();
        let after = [snapshot, records[at..].to_vec()].concat();
        prop_assert_eq!(replay(&after).records(), replay(&records).records());
    }
}
