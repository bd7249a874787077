//! The codes of everything that can go wrong outside a volfile, each with its exit code and its page for
//! `brickwork explain`. A code without a page does not compile.

use crate::failure::Exit;

macro_rules! codes {
    ($($variant:ident = $number:literal, $exit:ident, $title:literal, $page:literal;)*) => {
        /// What went wrong. The numbers are stable: scripts and documentation refer to them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All codes in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// As it is written: `E0101`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $number,)* }
            }

            /// What it is about, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// What causes it, what it means and what to do.
            pub fn page(self) -> &'static str {
                match self { $(Code::$variant => $page,)* }
            }

            /// What the process exits with.
            pub fn exit(self) -> Exit {
                match self { $(Code::$variant => Exit::$exit,)* }
            }
        }
    };
}

codes! {
    Usage = "E0001", Usage, "a command line that cannot be read",
"The verb, an option or a value is not known. The message shows what was understood; `brickwork help VERB` lists what the
verb takes. Nothing was done.";

    System = "E0002", Failed, "a call of the operating system failed",
"Something outside Brickwork said no: a full disk, a missing file, a limit. The message names the call's object and the
system's own reason. Nothing is retried behind your back: remove the cause and run the command again.";

    Interrupted = "E0003", Interrupted, "interrupted",
"A signal (Ctrl-C, SIGTERM) ended the command while it waited. What it had begun was taken back.";

    NoInstance = "E0101", Unavailable, "no such instance is running",
"Verbs that look at a running file system talk to its admin socket, in /run/brickwork (as root) or in
$XDG_RUNTIME_DIR/brickwork (as a user). No process answers there under the asked name.

Start one with `brickwork mount VOLFILE DIR` or `brickwork dev`; `brickwork status` lists what runs. Root's instances are
seen by root, a user's by that user. BRICKWORK_RUNTIME_DIR names another directory for both sides.";

    SeveralInstances = "E0102", Usage, "several instances are running",
"The verb speaks about one instance, and more than one is running. Choose with `-i NAME`; the message lists the names.";

    InstanceSilent = "E0103", Unavailable, "an instance does not answer",
"The process is there but gave no answer within `--timeout`, or it closed the connection. It may be stopping, or be stuck in
a call of a broken disk. `brickwork status` shows the others; the log of the instance tells what it was doing last.";

    Forbidden = "E0104", Permission, "the admin socket is not for this user",
"An instance takes requests from its own user and from root only. Run the command as the user who started the instance.";

    AdminBusy = "E0105", TryAgain, "the admin socket has no room",
"Too many programs are connected to one instance at the same time. Try again; if it stays, look for a script that keeps
connections open (`ss -x | grep brickwork`).";

    AdminProtocol = "E0106", Failed, "client and instance do not understand each other",
"The request or the answer was not in the form this version knows, or longer than allowed: most likely the `brickwork`
command and the running process are of different versions. `brickwork version` shows that of the command, `brickwork status` that of
each process. Unmount and mount again, and both are the same.";

    RuntimeDirectory = "E0107", Permission, "the directory of the admin sockets cannot be used",
"Admin sockets live in a directory that belongs to the user and that nobody else can write to. It could not be made, or it
belongs to someone else. Name another one with BRICKWORK_RUNTIME_DIR, or repair its owner and mode.";

    VolfileUnreadable = "E0110", Config, "a volfile cannot be read",
"The file is not there, is no file, or may not be read. The message has the path as it was looked for and the system's
reason. Nothing was started.";

    VolfileInvalid = "E0111", Config, "a volfile has errors",
"No graph is built from a volfile with errors. `brickwork volfile check FILE` shows each with its place and, where there is
one, the repair; `brickwork explain V0004` and the like explain a single finding.";

    GraphRefused = "E0112", Config, "an xlator refused to start",
"The volfile is correct, but one of its xlators could not do its part here: a brick's directory is missing, on a read-only
file system, or used by another process. The message names the volume, its place in the volfile and the reason. Everything
that was started before it has been stopped again.";

    NoSuchType = "E0113", Failed, "there is no xlator of that type",
"`brickwork xlator list` shows the types of this build. Types of GlusterFS that Brickwork accepts without effect or refuses
are in docs/gluster-compat.md.";

    NoSuchPage = "E0114", Failed, "there is no such code",
"Codes are a letter and four digits: V for findings in volfiles, E for everything else. `brickwork explain` without a code
lists all of them.";

    MountPointMissing = "E0120", Failed, "the mount point is not there",
"A file system is mounted on an existing directory. Make it with `mkdir -p DIR`, or correct the path.";

    MountPointNotDirectory = "E0121", Failed, "the mount point is no directory",
"A file system is mounted on a directory, and the path names something else.";

    MountPointTaken = "E0122", Failed, "something is mounted there already",
"Another Brickwork file system is mounted on the directory and answers. Unmount it with `brickwork umount DIR`, or choose
another directory. A mount whose process has died is removed by the next mount without asking.";

    FuseMissing = "E0123", Unavailable, "the kernel's FUSE device is not there",
"Mounting needs /dev/fuse. Load the module (`modprobe fuse`); in a container, pass the device in
(`--device /dev/fuse`).";

    HelperMissing = "E0124", Unavailable, "fusermount3 is not installed",
"Without root, the setuid helper `fusermount3` does the mounting. Install the package `fuse3`, or mount as root.";

    MountRefused = "E0125", Permission, "the mount was refused",
"The kernel or fusermount3 said no. Common reasons: the directory belongs to another user, `allow_other` without
`user_allow_other` in /etc/fuse.conf, or too many mounts (`mount_max` there). The message has the words of whoever refused.";

    MountOption = "E0126", Usage, "a mount option is not known or not allowed",
"`brickwork mount --help` lists the options that `-o` takes. Options are separated by commas: `-o ro,allow_other`.";

    MountSilent = "E0127", TimedOut, "the mount does not answer",
"The file system was mounted, but asking the kernel about it (`statfs`) gave no answer in time. The mount was removed again.
The log names what the brick was waiting for: usually a disk that does not answer.";

    DaemonDied = "E0128", Failed, "the process ended before it was ready",
"The background process stopped without saying why. Its log has the last words; run the same command with `--foreground` to
see them at once.";

    NotMounted = "E0130", Failed, "Brickwork is not mounted there",
"No mount of Brickwork is at that path. `brickwork status` lists the mounts of running instances; `findmnt -t fuse.brickwork`
lists all, also those whose process has died.";

    MountBusy = "E0131", TryAgain, "the mount is in use",
"A process has a file open on the mount or its working directory in it. `fuser -vm DIR` shows which. Stop it and repeat, or
use `--lazy`: the mount disappears from the tree at once and ends when the last file is closed.";

    UnmountRefused = "E0132", Permission, "the mount could not be removed",
"The kernel or fusermount3 refused. A mount can be removed by the user who made it and by root.";

    StillRunning = "E0133", TimedOut, "the process has not ended yet",
"The mount is gone from the tree, but the process behind it still works: open files of a lazy unmount, or a disk that does
not answer. It ends by itself when they are done; its log says what it waits for.";

    NotABrick = "E0140", Failed, "the directory is no brick of Brickwork",
"`brickwork brick detach` removes the marks that Brickwork left on the root of a brick. There are none on this directory.";

    BrickInUse = "E0141", TryAgain, "the brick is being served",
"A running process serves this directory. Unmount it first: a brick that is served would be marked again at once.";

    DetachRefused = "E0142", Permission, "the marks of a brick could not be removed",
"Removing `trusted.*` attributes needs root (CAP_SYS_ADMIN) and a writable file system.";

    DevBricks = "E0150", Usage, "more than one brick",
"`brickwork dev` serves one brick. Several bricks need cluster/distribute, which is not part of this version.";

    DevPlace = "E0151", Failed, "there is no place for the playground",
"`brickwork dev` keeps its brick and its mount in $XDG_RUNTIME_DIR or in the temporary directory. The file system there must
keep extended attributes of users (`user.*`): ext4, xfs, btrfs, and tmpfs since Linux 6.6 do. Set TMPDIR to a directory on
such a file system.";

    DevCommand = "E0152", Failed, "the command of --exec could not be started",
"`--exec` runs its argument by `sh -c`, so a shell must be found in PATH. That the command itself fails is no error of `dev`:
its exit code is then the exit code of `dev`.";

    NoSuchVolume = "E0201", Failed, "no brick that was asked knows that volume",
"The brick answers, but serves no client volfile for a volume of that name; the message lists those it has. Correct the name,
or ask another machine. On the brick, `option client-volfile VOLUME=PATH` of its `protocol/server` volume names the volfile
that clients get.";

    VolumeSpec = "E0202", Usage, "a volume on other machines that cannot be read",
"What is mounted is either a volfile that exists or a volume on other machines: `HOST:/VOLUME`, `HOST:PORT:/VOLUME`,
`[2001:db8::1]:24007:/VOLUME`, `unix:/path/to.sock:/VOLUME`, or several machines of one volume, asked in their order:
`vm1,vm2:/VOLUME`. Without a port it is 24007.";

    OtherVersion = "E0203", Failed, "a brick speaks another version",
"Client and brick have no version of the protocol in common, and the message shows both. Releases with the same first number
understand each other. Upgrade the older side; bricks first.";

    NotAdmitted = "E0204", Permission, "a brick does not let this client in",
"The address, the user and password, or the certificate of this client is not one that the brick accepts: `auth.addr`,
`auth.login` and the TLS options of its `protocol/server` volume. Or it serves no subvolume of the name that the client
volfile has (`remote-subvolume`). The brick's log names the client and what was missing.";

    TlsRefused = "E0205", Failed, "no secure connection with a brick",
"TLS could not be agreed upon: one side encrypts and the other does not, a certificate is not signed by an authority that the
other side trusts, it is for another name, or it has expired. The message has the words of the library. For mounting a volume
by its name, `-o ssl=on` with `ssl-ca-list`, `ssl-own-cert` and `ssl-private-key` say what this side uses.";

    NoBrickThere = "E0206", Failed, "what answers there is no brick of Brickwork",
"Something listens at the address but does not speak this protocol: another program, GlusterFS's own glusterd on port 24007,
or something between that closes connections. Name the brick's port: `HOST:PORT:/VOLUME`.";

    BrickUnreachable = "E0207", Unavailable, "a brick cannot be reached",
"No connection to the brick: its process does not run, its machine is down, or a firewall is between. On the brick's machine,
`brickwork brick status` shows what is served and on which port, and `journalctl -u brickwork-brick@NAME` why it stopped.

A mount that is there already waits for its brick and carries on by itself; operations that wait longer than the bound of
`protocol/client` answer ENOTCONN. At boot, `-o wait=30s` keeps trying until the first brick answers.";

    NothingServed = "E0208", Config, "the volfile serves nothing",
"`brickwork brick serve` starts graphs whose top is a `protocol/server` volume: it listens, and its subvolumes are what it
serves. `volfiles/brick.vol` is one. A volfile without it is for `brickwork mount`.";

    ReloadRefused = "E0301", Config, "a reload was refused",
"After SIGHUP the volfile was read again. It has errors, or an xlator did not take its new options. The running graph is
unchanged. Correct the file and send SIGHUP again; `brickwork volfile check FILE` shows the errors.";

    NeedsSwitch = "E0302", Config, "a reload would need another graph",
"After SIGHUP the volfile was read again. It adds, removes or moves xlators, or changes an option that cannot change while
its xlator runs (`brickwork xlator info TYPE` says which can). Switching graphs under open files is not part of this version:
unmount and mount again. The running graph is unchanged.";

    NoLocks = "E0401", Failed, "no locks are kept there",
"Locks are kept where the disk is: in the process of the brick, by `features/locks` in its volfile. The instance that was asked
is a mount that uses bricks of other machines, or its volfile has no `features/locks`; then file locks are refused there.

Ask on the machine of the brick; `brickwork brick status` lists what is served. `volfiles/locks.vol` shows where
`features/locks` stands.";

    LockSelector = "E0402", Usage, "a selection of locks that cannot be read",
"Locks are selected by `lk:8f3a` (one that is held), `lk:w8f3b` (one that waits), `client:web01` (a host, or the beginning of a
client's identity), `owner:HEX` (a lock owner), `brick:b1`, or the path of a file in the volume: `/db/app.sqlite`; also `gfid:UUID`.
Several ids or paths mean any of them, different kinds together mean what is in all of them. `brickwork locks list` shows them all.

Ranges are written as the tables show them, first and last byte: `0-99`, `100-EOF`; or with the byte after the last one:
`0..100`.";

    NoSuchLock = "E0403", Failed, "no such lock",
"Nothing that is held or waits now is meant. Locks come and go: what was in a list a moment ago may have been released. An id
means one lock as it was: when its range or mode changes, or when it was waiting and is granted, it becomes another one with
another id. `brickwork locks list` shows what there is.";

    Unconfirmed = "E0404", Usage, "it was not confirmed",
"Taking locks from programs can damage their data, so the command asks, and what it asks for must be typed exactly. Nothing was
changed. In a script, use `-y`; `--dry-run` shows what would happen.";

    NoReceipt = "E0405", Failed, "there is no such receipt",
"`brickwork locks drop` writes a receipt of what it took, in /var/lib/brickwork/receipts (as root) or in
$XDG_STATE_HOME/brickwork/receipts (as a user); BRICKWORK_STATE_DIR names another directory. `brickwork locks receipts` lists
them. A receipt can only be used by the user who has it, on the machine where it was written.";

    RestoreRefused = "E0406", Failed, "locks could not be restored",
"A dropped lock is given back only where nobody holds anything that conflicts with it now, and only to a client that is still
there. Nothing is restored unless all of a brick's are. The message names what is in the way: wait until it is released, or take what is
free with `--shrink`.

Who was told that the lock was lost has marked the open file bad: it answers EIO until it is closed, also when its lock is
restored. Restoring keeps others away from the range until then.";

    ReclaimRefused = "E0407", Failed, "a lock could not be taken over",
"`brickwork locks reclaim` and gateways take over a lock of exactly the same owner, range and kind from a client that has failed. The
message has the reason: `no-record` (nobody holds such a lock), `range-mismatch` (the owner holds something else there), `conflict`,
`no-grace`, `not-allowed` (the two clients are not of one failover group: `reclaim-from` of features/locks), or `off`
(`reclaim-lock` is off). It never becomes an ordinary lock instead: somebody may have held the range in between.";

    GraceNeeded = "E0408", TryAgain, "a grace cannot end yet",
"After a restart that lost its journal of locks, a brick waits for the clients that held locks, so that nobody takes them first. Some
have not come back, and ending the grace now would lose what they held. The message names them. It ends by itself when all
have claimed, or by time; `--force` ends it now.";

    LockChanged = "E0409", TryAgain, "a lock has changed meanwhile",
"Between the list that was shown and the command that followed, the lock was released, granted or changed. Nothing was dropped:
it would not have been what you looked at. Look again with `brickwork locks list` and repeat.";

    NotOnMount = "E0410", Usage, "the path is on no mount of Brickwork",
"`brickwork locks reclaim` and `release` act through the mount that the path is on, as that client. The path is on another file
system, or its mount belongs to another user. `brickwork status` lists the mounts.";

    LocksFailed = "E0411", Failed, "a brick could not do something about its locks",
"The brick answered with an error of the system, which the message names. Its log has the details.";

    NoSuchObject = "E0412", Failed, "the volume has no file of that name",
"The path is one in the volume, as `brickwork locks list` shows it: it begins with `/` at the root of the volume. Where the volume
is mounted on this machine, the path below the mount point works, too. No brick that was asked has a file there.";
}

impl Code {
    /// Reads a code as a person types it: `E0101` or `e101`.
    pub fn parse(text: &str) -> Option<Code> {
        let number: u32 = text.trim().strip_prefix(['e', 'E'])?.parse().ok()?;
        Code::ALL.iter().copied().find(|code| code.as_str()[1..].parse() == Ok(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let numbers: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    }

    #[test]
    fn a_code_is_read_as_people_type_it() {
        assert_eq!(Code::parse("E0101"), Some(Code::NoInstance));
        assert_eq!(Code::parse("e101"), Some(Code::NoInstance));
        assert_eq!(Code::parse("V0101"), None);
        assert_eq!(Code::parse("E9999"), None);
    }

    #[test]
    fn every_page_says_more_than_its_title() {
        for code in Code::ALL {
            assert!(code.page().len() > 2 * code.title().len(), "{code:?}");
        }
    }
}
