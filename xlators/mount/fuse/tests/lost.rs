//! Open files whose lock is gone: what the kernel has cached is not shown through them.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use brickwork_api::locks::{ClientNotice, LOCK_LOST, LockNotice, LostBy};
use brickwork_api::{
    ClientId, Cx, Errno, Event, FopError, FopKind, FopResult, OpenFile, OpenId, ReadReply, ReadReq, Route, Xdata,
    Xlator, async_trait,
};
use brickwork_testkit::MemoryLeaf;
use common::Rig;
use common::told::Told;
use parking_lot::Mutex;

/// A brick that refuses reads through opens whose lock is gone.
struct Fences {
    child: Arc<dyn Xlator>,
    last: Mutex<Option<OpenFile>>,
    fenced: Mutex<Vec<OpenId>>,
}

#[async_trait]
impl Xlator for Fences {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    async fn read(&self, cx: &Cx, req: &ReadReq) -> FopResult<ReadReply> {
        *self.last.lock() = Some(req.file);
        if self.fenced.lock().contains(&req.file.open) {
            let why = Xdata::EMPTY.with(&LOCK_LOST, LostBy::Expiry.word().to_owned());
            return Err(FopError::new(Errno::EIO).with_xdata(why));
        }
        self.child.read(cx, req).await
    }
}

struct Scene {
    rig: Rig,
    fences: Arc<Fences>,
    /// Has read the file, so that the kernel has its page.
    file: File,
    id: OpenFile,
}

impl Scene {
    fn new() -> Option<Scene> {
        let child = Arc::new(MemoryLeaf::new());
        let fences = Arc::new(Fences { child, last: Mutex::default(), fenced: Mutex::default() });
        // A graph that tells of changes: the kernel keeps pages.
        let rig = Rig::over(Told::over(fences.clone()), "", true)?;
        let path = rig.path().join("x");
        fs::write(&path, b"content").unwrap();
        let file = File::open(path).unwrap();
        assert_eq!(read(&file), Ok(7));
        let id = fences.last.lock().unwrap();
        Some(Scene { rig, fences, file, id })
    }

    fn other(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.rig.path().join("x")).unwrap()
    }

    fn fence(&self) {
        self.fences.fenced.lock().push(self.id.open);
    }

    fn tell(&self, client: ClientId) {
        let notice = LockNotice::Lost { gfid: self.id.gfid, opens: vec![self.id.open], why: LostBy::Expiry };
        self.rig.mounted().notify(&Event::Lock(ClientNotice { client, notice }));
    }

    /// Reads through the lost open until the kernel has dropped what it kept, which nobody waits for.
    fn read_until_refused(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while read(&self.file) != Err(libc::EIO) {
            assert!(std::time::Instant::now() < deadline, "what was cached is shown for ever");
            std::thread::yield_now();
        }
    }
}

fn read(file: &File) -> Result<usize, i32> {
    file.read_at(&mut [0; 100], 0).map_err(|error| error.raw_os_error().unwrap())
}

#[test]
fn what_the_kernel_kept_is_not_shown_through_an_open_whose_lock_is_gone() {
    let Some(scene) = Scene::new() else { return };
    scene.rig.recorder.take();
    assert_eq!(read(&scene.file), Ok(7));
    assert_eq!(scene.rig.recorder.count(FopKind::Read), 0, "the kernel keeps nothing: the test shows nothing");
    scene.fence();
    scene.tell(ClientId::random());
    assert_eq!(read(&scene.file), Ok(7), "that was another client's");
    scene.tell(scene.rig.mounted().client());
    scene.read_until_refused();
    // A good open of the file does not bring the pages back for it.
    let other = scene.other();
    assert_eq!(read(&other), Ok(7));
    assert_eq!(read(&scene.file), Err(libc::EIO));
}

#[test]
fn an_answer_that_says_so_is_as_good_as_the_event() {
    let Some(scene) = Scene::new() else { return };
    // Beyond the page that the kernel has.
    scene.other().set_len(1 << 20).unwrap();
    assert_eq!(read(&scene.file), Ok(100));
    scene.fence();
    let beyond = scene.file.read_at(&mut [0; 100], 512 << 10);
    assert_eq!(beyond.unwrap_err().raw_os_error(), Some(libc::EIO));
    scene.read_until_refused();
}

#[test]
fn when_the_lost_open_is_closed_the_kernel_keeps_pages_again() {
    let Some(scene) = Scene::new() else { return };
    scene.fence();
    scene.tell(scene.rig.mounted().client());
    scene.read_until_refused();
    let Scene { rig, file, .. } = scene;
    drop(file);
    rig.recorder.wait_for(FopKind::Release);
    // The open has ended here when the kernel has the answer to a later request of another one.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let again = File::open(rig.path().join("x")).unwrap();
        assert_eq!(read(&again), Ok(7));
        rig.recorder.take();
        assert_eq!(read(&again), Ok(7));
        if rig.recorder.count(FopKind::Read) == 0 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "nothing is kept any more");
    }
}
