//! What a client believes it holds fits into frames.

use brickwork_api::locks::{CLAIM, CLAIM_RANGES_MAX, CLAIMS_MAX, Claim, Claims};
use brickwork_api::*;
use brickwork_wire::frame::FrameLimits;
use brickwork_wire::message::RequestHead;

/// The most bytes of the header of a `CLAIM`.
fn header(claims: usize, owner: usize, ranges: usize) -> usize {
    let owner = LkOwner::new(&vec![7; owner]).expect("an owner");
    let range = |at: usize| LkRange {
        kind: LkType::Write,
        start: u64::MAX - 8192 + 2 * at as u64,
        end: u64::MAX,
        pid: u32::MAX,
    };
    let claim = Claim {
        gfid: Gfid::random(),
        open: OpenId(u64::MAX),
        kind: LkKind::Posix,
        owner: owner.clone(),
        ranges: (0..ranges).map(range).collect(),
    };
    let payload = brickwork_codec::encode(&Claims { claims: vec![claim; claims], complete: true }).into();
    let request = IpcReq { operation: CLAIM.to_owned(), payload, xdata: Xdata::EMPTY };
    let head = RequestHead {
        slot: u32::MAX,
        sequence: u64::MAX,
        lk_owner: owner,
        uid: u32::MAX,
        gid: u32::MAX,
        pid: u32::MAX,
        groups: Default::default(),
    };
    brickwork_codec::encode(&(head, request)).len()
}

#[test]
fn a_claim_of_the_most_ranges_and_the_longest_owner_fits_into_a_frame_many_times() {
    let one = header(1, LkOwner::MAX, CLAIM_RANGES_MAX);
    assert!(one * 32 <= FrameLimits::FULL.header as usize, "{one} bytes");
}

#[test]
fn a_piece_of_the_most_claims_fits_when_each_has_the_longest_owner_and_a_hundred_ranges() {
    let piece = header(CLAIMS_MAX, LkOwner::MAX, 100);
    assert!(piece <= FrameLimits::FULL.header as usize, "{piece} bytes");
    // Those of all ranges would not: whoever makes pieces counts bytes too.
    assert!(header(CLAIMS_MAX, 8, CLAIM_RANGES_MAX) > FrameLimits::FULL.header as usize);
}
