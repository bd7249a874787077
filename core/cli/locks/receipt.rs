//! What a drop leaves behind, so that it can be undone: a JSON file of this user.
//!
//! It is written before anything is dropped and completed afterwards: nothing is ever dropped without one.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use brickwork_locks::admin::shapes::{LockRow, RowId};
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::failure::Failure;
use crate::output::{API_VERSION, now};

/// What was dropped, when and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The form of this file.
    pub api_version: String,
    /// `LockReceipt`.
    pub kind: String,
    /// Its name: `rc-20261120-231501-8f3a`.
    pub id: String,
    /// When, in UTC.
    pub dropped_at: String,
    /// By which user.
    pub uid: u32,
    /// Why.
    pub reason: String,
    /// Whether the drop is known to have happened; without, the command was cut off and it may have.
    pub done: bool,
    /// When all of it was restored.
    pub restored_at: Option<String>,
    /// What, by brick.
    pub bricks: Vec<Dropped>,
}

/// What was dropped of one brick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// The instance that served it.
    pub instance: String,
    /// The brick.
    pub brick: String,
    /// The locks as they were; requests that waited are not among them.
    pub locks: Vec<LockRow>,
}

impl Receipt {
    /// One of `bricks` under a name that ends in the first lock's id.
    #[must_use]
    pub fn new(reason: &str, bricks: Vec<Dropped>) -> Receipt {
        let now = now();
        let digits: String = now.chars().filter(char::is_ascii_digit).take(14).collect();
        let first = bricks.iter().flat_map(|brick| &brick.locks).map(|lock| lock.id).next();
        let suffix = match first {
            Some(RowId::Held(id) | RowId::Waiting(id)) => format!("{id:x}"),
            None => "0".to_owned(),
        };
        Receipt {
            api_version: API_VERSION.to_owned(),
            kind: "LockReceipt".to_owned(),
            id: format!("rc-{}-{}-{suffix}", &digits[..8], &digits[8..]),
            dropped_at: now,
            uid: rustix::process::getuid().as_raw(),
            reason: reason.to_owned(),
            done: false,
            restored_at: None,
            bricks,
        }
    }

    /// How many locks.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.bricks.iter().map(|brick| brick.locks.len()).sum()
    }
}

/// The receipts of this user.
#[derive(Debug)]
pub struct Receipts(PathBuf);

impl Receipts {
    /// `$BRICKWORK_STATE_DIR/receipts`; else `/var/lib/brickwork/receipts` for root, `$XDG_STATE_HOME/brickwork/receipts` for
    /// others.
    ///
    /// # Errors
    /// `NoReceipt` for a user without a home.
    pub fn find() -> Result<Receipts, Failure> {
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let of_user = || match (given("XDG_STATE_HOME"), given("HOME")) {
            (Some(state), _) => Some(state.join("brickwork")),
            (None, Some(home)) => Some(home.join(".local/state/brickwork")),
            (None, None) => None,
        };
        let state = given("BRICKWORK_STATE_DIR").or_else(|| match rustix::process::geteuid().is_root() {
            true => Some(PathBuf::from("/var/lib/brickwork")),
            false => of_user(),
        });
        state.map(|state| Receipts(state.join("receipts"))).ok_or_else(|| {
            Failure::new(Code::NoReceipt, "there is no place for receipts").next("set HOME or BRICKWORK_STATE_DIR")
        })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Writes a new receipt; when its name is taken (two drops in one second), it gets a number.
    ///
    /// # Errors
    /// `System`.
    pub fn add(&self, receipt: &mut Receipt) -> Result<(), Failure> {
        let stem = receipt.id.clone();
        receipt.id = self.free_name(&stem).map_err(|error| self.unwritable(&stem, &error))?;
        self.save(receipt)
    }

    /// Takes `stem`, or `stem-2` and so on when it is taken.
    fn free_name(&self, stem: &str) -> io::Result<String> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let numbered = (2_u64..).map(|number| format!("{stem}-{number}"));
        for id in std::iter::once(stem.to_owned()).chain(numbered) {
            let mut options = fs::OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(self.path(&id)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|_| id),
            }
        }
        unreachable!("numbers do not end")
    }

    /// Writes `receipt` in place of what stands under its name; whoever reads meanwhile sees one or the other.
    ///
    /// # Errors
    /// `System`.
    pub fn save(&self, receipt: &Receipt) -> Result<(), Failure> {
        let (path, new) = (self.path(&receipt.id), self.0.join(format!(".{}.{}", receipt.id, std::process::id())));
        let written = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            serde_json::to_writer_pretty(&file, receipt)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        let written: io::Result<()> = written();
        written.map_err(|error| self.unwritable(&receipt.id, &error))
    }

    /// Removes a receipt of nothing.
    ///
    /// # Errors
    /// `System`.
    pub fn remove(&self, receipt: &Receipt) -> Result<(), Failure> {
        fs::remove_file(self.path(&receipt.id)).map_err(|error| self.unwritable(&receipt.id, &error))
    }

    /// The receipt called `id`.
    ///
    /// # Errors
    /// `NoReceipt`.
    pub fn read(&self, id: &str) -> Result<Receipt, Failure> {
        let unreadable = |why: String| {
            Failure::new(Code::NoReceipt, format!("there is no receipt `{id}`"))
                .at(self.0.display())
                .because(why)
                .next("brickwork locks receipts")
        };
        if id.contains('/') {
            return Err(unreadable("its name is no path".to_owned()));
        }
        let text = fs::read(self.path(id)).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
    }

    /// All of them, the newest first, and the names of those that cannot be read.
    ///
    /// # Errors
    /// `NoReceipt` for a directory that cannot be read.
    pub fn all(&self) -> Result<(Vec<Receipt>, Vec<String>), Failure> {
        let unreadable = |error: io::Error| {
            Failure::new(Code::NoReceipt, format!("`{}` cannot be read", self.0.display())).because(error)
        };
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            entries => entries.map_err(unreadable)?,
        };
        let (mut receipts, mut strange) = (Vec::new(), Vec::new());
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_suffix(".json").filter(|id| !id.starts_with('.')) else { continue };
            match self.read(id) {
                Ok(receipt) => receipts.push(receipt),
                Err(_) => strange.push(name),
            }
        }
        receipts.sort_by(|a, b| b.dropped_at.cmp(&a.dropped_at));
        Ok((receipts, strange))
    }

    fn unwritable(&self, id: &str, error: &io::Error) -> Failure {
        Failure::new(Code::System, format!("the receipt `{id}` cannot be written")).at(self.0.display()).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    fn receipt() -> Receipt {
        let locks = vec![row("lk:8f3a", "web01", "WRITE", "0-99").lock];
        Receipt::new("why", vec![Dropped { instance: "gd1".to_owned(), brick: "b2".to_owned(), locks }])
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_two_of_one_second_are_two() {
        let folder = tempfile::tempdir().unwrap();
        let receipts = Receipts(folder.path().join("receipts"));
        let (mut first, mut second) = (receipt(), receipt());
        second.dropped_at.clone_from(&first.dropped_at);
        second.id.clone_from(&first.id);
        receipts.add(&mut first).unwrap();
        receipts.add(&mut second).unwrap();
        assert!(first.id.starts_with("rc-") && first.id.ends_with("-8f3a"), "{}", first.id);
        assert_eq!(second.id, format!("{}-2", first.id));
        assert_eq!(receipts.read(&first.id).unwrap(), first);
        assert_eq!(receipts.all().unwrap().0.len(), 2);
        receipts.remove(&second).unwrap();
        assert_eq!(receipts.read(&second.id).unwrap_err().code(), Code::NoReceipt);
    }

    #[test]
    fn a_name_of_a_receipt_does_not_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("receipts")).unwrap();
        fs::write(folder.path().join("x.json"), serde_json::to_vec(&receipt()).unwrap()).unwrap();
        let receipts = Receipts(folder.path().join("receipts"));
        assert_eq!(receipts.read("../x").unwrap_err().code(), Code::NoReceipt);
    }
}
