//! `fusermount3`: mounting without root. It mounts and sends the descriptor over a socket (`SCM_RIGHTS`).

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType, recvmsg, socketpair,
};

use super::{MountError, MountOptions};
use crate::transport::DevFuse;

const PROGRAM: &str = "fusermount3";

/// Mounts at `point` and returns the descriptor that was handed over.
pub(super) fn mount(point: &Path, options: &MountOptions) -> Result<DevFuse, MountError> {
    let no_descriptor = |why: String| MountError::NoDescriptor { point: point.to_owned(), why };
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|errno| no_descriptor(errno.to_string()))?;
    // The socket is the helper's standard input: no descriptor has to be inherited by anybody else's children.
    let output = Command::new(PROGRAM)
        .args(["-o", &options.for_helper()?, "--"])
        .arg(point)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .output()
        .map_err(|why| MountError::NoHelper { why })?;
    if !output.status.success() {
        return Err(refused(point, &output.stderr, output.status));
    }
    let descriptor = receive(&ours).map_err(|errno| no_descriptor(errno.to_string()))?;
    descriptor.map(DevFuse::from_descriptor).ok_or_else(|| no_descriptor("the message carried none".into()))
}

/// Takes the mount at `point` out of the tree, with `lazy` even while it is in use.
pub(super) fn unmount(point: &Path, lazy: bool) -> Result<(), MountError> {
    let output = Command::new(PROGRAM)
        .args(if lazy { ["-u", "-z", "--"].as_slice() } else { &["-u", "--"] })
        .arg(point)
        // Its words are read below: they must be those of the C locale.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|why| MountError::NoHelper { why })?;
    match output.status.success() {
        true => Ok(()),
        false if String::from_utf8_lossy(&output.stderr).contains("Device or resource busy") => {
            Err(MountError::InUse { point: point.to_owned() })
        }
        false => Err(refused(point, &output.stderr, output.status)),
    }
}

fn refused(point: &Path, stderr: &[u8], status: std::process::ExitStatus) -> MountError {
    let stderr = String::from_utf8_lossy(stderr);
    let first = stderr.lines().next().unwrap_or("").trim();
    let said = if first.is_empty() { format!("{PROGRAM} ended with {status}") } else { first.to_owned() };
    MountError::Helper { point: point.to_owned(), said }
}

/// Receives the one message of the helper.
fn receive(socket: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut byte = [0; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

impl MountOptions {
    /// The options as `fusermount3 -o` takes them.
    fn for_helper(&self) -> Result<String, MountError> {
        if self.subtype.contains([',', '\0']) || self.source.contains('\0') {
            return Err(self.impossible());
        }
        // A comma ends an option unless a backslash stands before it, and so does a backslash.
        let source = self.source.replace('\\', "\\\\").replace(',', "\\,");
        let mut options = vec![format!("fsname={source}"), format!("subtype={}", self.subtype)];
        let switches = [(self.read_only, "ro"), (self.suid, "suid"), (self.devices, "dev"), (!self.exec, "noexec")];
        options.extend(switches.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()));
        options.extend(self.common());
        Ok(options.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_the_source_is_escaped() {
        let options =
            MountOptions { source: "vm,vm2:/gd1".into(), allow_other: false, exec: false, ..MountOptions::default() };
        let expected = "fsname=vm\\,vm2:/gd1,subtype=brickwork,noexec,default_permissions";
        assert_eq!(options.for_helper().unwrap(), expected);
    }

    #[test]
    fn a_subtype_that_would_be_another_option_is_refused() {
        let options = MountOptions { subtype: "x,allow_other".into(), ..MountOptions::default() };
        assert!(matches!(options.for_helper(), Err(MountError::Options { .. })));
    }
}
