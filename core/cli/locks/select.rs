//! Which locks a command line means.

use std::path::Path;
use std::str::FromStr;

use brickwork_locks::admin::shapes::{ListAsk, RowId};

use crate::codes::Code;
use crate::failure::Failure;
use crate::instance::Runtime;

/// One word that selects locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `lk:8f3a`, `lk:w8f3b`
    Lock(RowId),
    /// `client:web01`
    Client(String),
    /// `owner:HEX`
    Owner(String),
    /// `brick:b1`
    Brick(String),
    /// A path, or `gfid:UUID`
    Path(String),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Selector, String> {
        let word = |kind: &str, value: &str| match value {
            "" => Err(format!("`{text}` names no {kind}")),
            value => Ok(value.to_owned()),
        };
        match text.split_once(':') {
            Some(("lk", _)) => text.parse().map(Selector::Lock),
            Some(("client", client)) => word("client", client).map(Selector::Client),
            Some(("brick", brick)) => word("brick", brick).map(Selector::Brick),
            Some(("owner", owner)) => {
                let digits = |owner: &String| owner.bytes().all(|digit| digit.is_ascii_hexdigit());
                let owner = word("owner", owner).ok().filter(digits).map(|owner| owner.to_ascii_lowercase());
                owner
                    .map(Selector::Owner)
                    .ok_or_else(|| format!("`{text}` is no owner: write `owner:` and its hexadecimal digits"))
            }
            _ => word("path", text).map(Selector::Path),
        }
    }
}

/// What several words select together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of this brick alone.
    pub brick: Option<String>,
    /// Of objects with these paths in the volume.
    pub paths: Vec<String>,
    /// The rest.
    pub ask: ListAsk,
}

impl Selection {
    /// What `selectors` mean together: any of several ids or paths, all of what is of different kinds.
    ///
    /// # Errors
    /// `LockSelector`.
    pub fn of(selectors: &[Selector], runtime: &Runtime) -> Result<Selection, Failure> {
        let mut selection = Selection::default();
        let mounts = runtime.mounted()?;
        for selector in selectors {
            match selector {
                Selector::Lock(id) => selection.ask.ids.push(*id),
                Selector::Client(client) => once(&mut selection.ask.client, client, "client")?,
                Selector::Owner(owner) => once(&mut selection.ask.owner, owner, "owner")?,
                Selector::Brick(brick) => once(&mut selection.brick, brick, "brick")?,
                Selector::Path(path) => selection.paths.push(in_volume(path, &mounts)?),
            }
        }
        Ok(selection)
    }
}

fn once(place: &mut Option<String>, value: &str, what: &str) -> Result<(), Failure> {
    match place.replace(value.to_owned()) {
        None => Ok(()),
        Some(other) => {
            Err(Failure::new(Code::LockSelector, format!("two of one kind: `{what}:{other}` and `{what}:{value}`"))
                .next(format!("one {what} at a time")))
        }
    }
}

/// `path` as the volume knows it: what is below a mount point of ours loses that, what begins with `/` is meant as it is.
fn in_volume(path: &str, mounts: &[std::path::PathBuf]) -> Result<String, Failure> {
    if path.starts_with("gfid:") {
        return Ok(path.to_owned());
    }
    let wrong = |why: &str| {
        Failure::new(Code::LockSelector, format!("`{path}` selects nothing"))
            .because(why)
            .next("lk:ID, client:HOST, owner:HEX, brick:NAME, gfid:UUID, or a path that begins with /")
    };
    let absolute = std::path::absolute(path).map_err(|error| wrong(&error.to_string()))?;
    let below = mounts
        .iter()
        .filter_map(|mount| Some((mount.components().count(), absolute.strip_prefix(mount).ok()?)))
        .max_by_key(|(depth, _)| *depth);
    match below {
        Some((_, below)) => Ok(Path::new("/").join(below).display().to_string()),
        None if path.starts_with('/') => Ok(path.to_owned()),
        None => Err(wrong("it is no path in the volume, and not below a mount of Brickwork either")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_selector_is_read_and_others_are_refused() {
        assert_eq!("lk:8f".parse(), Ok(Selector::Lock(RowId::Held(0x8f))));
        assert_eq!("lk:w8f".parse(), Ok(Selector::Lock(RowId::Waiting(0x8f))));
        assert_eq!("client:web01".parse(), Ok(Selector::Client("web01".to_owned())));
        assert_eq!("owner:00FF".parse(), Ok(Selector::Owner("00ff".to_owned())));
        assert_eq!("brick:b1".parse(), Ok(Selector::Brick("b1".to_owned())));
        assert_eq!("/a:b".parse(), Ok(Selector::Path("/a:b".to_owned())));
        for wrong in ["lk:", "lk:xyz", "client:", "owner:", "owner:xyz", "brick:", ""] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_below_a_mount_is_one_in_its_volume() {
        let mounts = ["/mnt".into(), "/mnt/g1".into()];
        assert_eq!(in_volume("/mnt/g1/db/x", &mounts).unwrap(), "/db/x");
        assert_eq!(in_volume("/mnt/g1", &mounts).unwrap(), "/");
        assert_eq!(in_volume("/db/x", &mounts).unwrap(), "/db/x");
        assert_eq!(in_volume("/mnt/g12", &["/mnt/g1".into()]).unwrap(), "/mnt/g12");
        assert_eq!(in_volume("db/x", &mounts).unwrap_err().code(), Code::LockSelector);
    }
}
