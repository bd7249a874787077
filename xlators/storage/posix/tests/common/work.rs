//! Random changes of names, the same for the same seed.

use brickwork_api::*;
use brickwork_testkit::Client;
use brickwork_testkit::client::entry;

/// A small generator (splitmix64): what a failed test prints is enough to run it again.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % bound as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A seed from the clock, printed, or that of `BRICKWORK_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("BRICKWORK_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("BRICKWORK_SEED={seed}");
    seed
}

/// A client that changes names in a few directories, and keeps some of what it creates open.
pub struct Worker<'a> {
    client: &'a Client,
    folders: Vec<Gfid>,
    random: Random,
    open: Vec<OpenFile>,
}

/// What may happen when others work on the same names.
const EXPECTED: [Errno; 8] = [
    Errno::ENOENT,
    Errno::EEXIST,
    Errno::ENOTEMPTY,
    Errno::EISDIR,
    Errno::ENOTDIR,
    Errno::ESTALE,
    Errno::EPERM,
    Errno::EINVAL,
];

impl<'a> Worker<'a> {
    pub fn new(client: &'a Client, folders: Vec<Gfid>, random: Random) -> Worker<'a> {
        Worker { client, folders, random, open: Vec::new() }
    }

    /// Does one change; others may have been faster.
    pub fn step(&mut self) {
        let (from, to) = (self.place(), self.place());
        let (from, to) = ((from.0, from.1.as_str()), (to.0, to.1.as_str()));
        let client = self.client;
        let result = match self.random.below(12) {
            0..=2 => client.create(from.0, from.1).and_then(|file| self.keep(file)),
            3 => client.mkdir(from.0, from.1).map(drop),
            4 => client.symlink(from.0, from.1, b"somewhere").map(drop),
            5 => client.unlink(from.0, from.1).map(drop),
            6 => client.rmdir(from.0, from.1).map(drop),
            7 | 8 => client.rename(from, to, RenameMode::Replace).map(drop),
            9 => client.rename(from, to, RenameMode::Exchange).map(drop),
            10 => client.rename(from, to, RenameMode::NoReplace).map(drop),
            _ => client.lookup(from.0, from.1).and_then(|attr| client.link(attr.gfid, to.0, to.1)).map(drop),
        };
        if let Err(errno) = result {
            assert!(EXPECTED.contains(&errno), "{errno} for {from:?} {to:?}");
        }
    }

    fn place(&mut self) -> (Gfid, String) {
        let folder = *self.random.pick(&self.folders);
        (folder, format!("name-{}", self.random.below(12)))
    }

    fn keep(&mut self, file: OpenFile) -> Result<(), Errno> {
        self.open.push(file);
        if self.open.len() > 4 {
            let file = self.open.swap_remove(self.random.below(4));
            self.client.release(file)?;
        }
        Ok(())
    }

    /// Closes everything.
    pub fn end(self) {
        for file in self.open {
            self.client.release(file).unwrap();
        }
    }
}

/// Looks everything up, so that what a crash left is put right.
pub fn look_everything_up(client: &Client) {
    let mut folders = vec![Gfid::ROOT];
    while let Some(folder) = folders.pop() {
        for name in client.names(folder).unwrap() {
            let target = Locate::Entry(entry(folder, &name));
            let request = LookupReq { target, xdata: Xdata::EMPTY };
            let attr = client.call::<fop::Lookup>(&request).unwrap_or_else(|errno| panic!("{name}: {errno}")).attr;
            if attr.kind == FileKind::Directory {
                folders.push(attr.gfid);
            }
        }
    }
}
