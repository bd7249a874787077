//! The volfile service: the client volfiles that stand beside the brick's own.
//!
//! A file is read when it is asked for, so an edited one is handed out from the next mount on. Its generation grows each
//! time its content is seen to have changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brickwork_api::options::OptionError;
use brickwork_api::{Host, Xdata, blocking};
use brickwork_wire::message::{Refused, Volfile, Why};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The longest volfile that is handed out: that of the parser.
const TEXT_MAX: u64 = 1 << 20;

/// The volumes that a server knows the volfile of.
#[derive(Debug, Default)]
pub(crate) struct Volumes(BTreeMap<String, Served>);

#[derive(Debug)]
struct Served {
    path: PathBuf,
    last: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    sha256: [u8; 32],
    generation: u64,
}

impl Volumes {
    /// Reads `VOLUME=PATH, …`.
    ///
    /// # Errors
    /// What is no such pair, or stands twice.
    pub(crate) fn parse(text: Option<&str>) -> Result<Volumes, Vec<OptionError>> {
        let refused = |reason: String| vec![OptionError { key: "client-volfile".to_owned(), reason }];
        let mut volumes = BTreeMap::new();
        for pair in text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((name, path)) = pair.split_once('=').map(|(name, path)| (name.trim(), path.trim())) else {
                return Err(refused(format!("`{pair}` is not `VOLUME=PATH`")));
            };
            if name.is_empty() || name.contains('/') || !path.starts_with('/') {
                return Err(refused(format!("`{pair}` is not a volume's name, `=` and an absolute path")));
            }
            let served = Served { path: PathBuf::from(path), last: Mutex::new(None) };
            if volumes.insert(name.to_owned(), served).is_some() {
                return Err(refused(format!("the volume `{name}` stands twice")));
            }
        }
        Ok(Volumes(volumes))
    }

    /// Names and files, for `status`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|(name, served)| (name.as_str(), served.path.as_path()))
    }

    /// The volfile of `volume`.
    ///
    /// # Errors
    /// No such volume, and which there are; a file that cannot be read.
    pub(crate) async fn volfile(&self, host: &dyn Host, volume: &str) -> Result<Volfile, Refused> {
        let Some(served) = self.0.get(volume) else { return Err(self.no_such(volume)) };
        let path = served.path.clone();
        let read = blocking(host, move || read(&path)).await.map_err(|error| error.to_string());
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(why)) | Err(why) => {
                tracing::error!(volume, path = %served.path.display(), why, "a client volfile cannot be handed out");
                let reason = format!("its volfile cannot be read: {why}; see the log of the brick");
                return Err(Refused { why: Why::Later, reason });
            }
        };
        let sha256: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        Ok(Volfile { generation: served.generation(sha256), sha256, text, xdata: Xdata::EMPTY })
    }

    fn no_such(&self, volume: &str) -> Refused {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let served =
            if names.is_empty() { "it serves none".to_owned() } else { format!("it serves: {}", names.join(", ")) };
        Refused { why: Why::NotFound, reason: format!("no such volume `{volume}` ({served})") }
    }
}

impl Served {
    fn generation(&self, sha256: [u8; 32]) -> u64 {
        let mut last = self.last.lock();
        let generation = match *last {
            None => 1,
            Some(seen) if seen.sha256 == sha256 => seen.generation,
            Some(seen) => seen.generation + 1,
        };
        *last = Some(Seen { sha256, generation });
        generation
    }
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(TEXT_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match text.len() as u64 > TEXT_MAX {
        true => Err(format!("it is longer than {TEXT_MAX} bytes")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::{TestHost, block_on};

    fn volumes(text: &str) -> Volumes {
        Volumes::parse(Some(text)).unwrap()
    }

    #[test]
    fn a_changed_file_is_handed_out_with_a_higher_generation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gd1.vol");
        let volumes = volumes(&format!("gd1={}", path.display()));
        let fetch = || block_on(volumes.volfile(&*TestHost::new(), "gd1")).unwrap();
        std::fs::write(&path, "one").unwrap();
        let (first, again) = (fetch(), fetch());
        assert_eq!((first.text.as_str(), first.generation, again.generation), ("one", 1, 1));
        assert_eq!(first.sha256, <[u8; 32]>::from(Sha256::digest(b"one")));
        std::fs::write(&path, "two").unwrap();
        let second = fetch();
        assert_eq!((second.text.as_str(), second.generation), ("two", 2));
    }

    #[test]
    fn another_volume_is_refused_with_those_there_are() {
        let refused = block_on(volumes("a=/a.vol, b=/b.vol").volfile(&*TestHost::new(), "c")).unwrap_err();
        assert_eq!((refused.why, refused.reason.as_str()), (Why::NotFound, "no such volume `c` (it serves: a, b)"));
        let refused = block_on(Volumes::parse(None).unwrap().volfile(&*TestHost::new(), "c")).unwrap_err();
        assert_eq!(refused.reason, "no such volume `c` (it serves none)");
    }

    #[test]
    fn what_is_no_volume_and_path_is_refused() {
        for text in ["gd1", "=/a", "a=b.vol", "x/y=/a", "a=/a,a=/b"] {
            assert!(Volumes::parse(Some(text)).is_err(), "{text}");
        }
    }
}
