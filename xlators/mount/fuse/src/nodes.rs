//! The node table: which object each node id of the kernel stands for, and how often the kernel was told of it.
//!
//! A node id is the low half of the gfid, so that an object has the same id for as long as the mount lives, however
//! often the kernel forgets it. Where two objects share that half, or it is one of the reserved numbers 0 and 1, the
//! later one gets a random id of the same shard, which one lock thus covers.
//!
//! Always true between calls:
//! - an object has one id, and an id one object;
//! - an entry's count is what replies told the kernel minus what FORGET took back, and above zero;
//! - the root has id 1 and is never forgotten.
//!
//! The table has no bound of its own: every entry is an inode that the kernel holds, and the kernel shrinks its own
//! cache under memory pressure. `status` shows the number.

use std::collections::HashMap;

use brickwork_api::{Attr, Gfid};
use brickwork_fuse::NodeId;
use parking_lot::{Mutex, MutexGuard};

const SHARDS: u64 = 64;

struct Node {
    gfid: Gfid,
    /// The directory it was last found in: what `..` in it means. Kept for directories only, which have one name.
    parent: Option<Gfid>,
    lookups: u64,
    /// Whether its last change was one of content, when it was last looked up: its time is then that change's alone.
    content_last: bool,
}

/// The nodes whose id has the same remainder.
#[derive(Default)]
struct Shard {
    nodes: HashMap<u64, Node>,
    /// Ids that are not the low half of their gfid.
    odd: HashMap<Gfid, u64>,
    /// Objects whose last `forget` the graph has not answered, with how many it has not.
    forgetting: HashMap<Gfid, u32>,
}

/// The objects that the kernel refers to.
pub(crate) struct Nodes {
    shards: Box<[Mutex<Shard>]>,
}

impl Nodes {
    pub(crate) fn new() -> Nodes {
        let nodes = Nodes { shards: (0..SHARDS).map(|_| Mutex::default()).collect() };
        let root = Node { gfid: Gfid::ROOT, parent: Some(Gfid::ROOT), lookups: 1, content_last: false };
        nodes.shard(NodeId::ROOT.0).nodes.insert(NodeId::ROOT.0, root);
        nodes
    }

    /// The object behind `node`; `None` for an id that was never told or has been forgotten.
    pub(crate) fn gfid(&self, node: NodeId) -> Option<Gfid> {
        self.shard(node.0).nodes.get(&node.0).map(|entry| entry.gfid)
    }

    /// The directory in which the directory `node` was last found.
    pub(crate) fn parent(&self, node: NodeId) -> Option<Gfid> {
        self.shard(node.0).nodes.get(&node.0).and_then(|entry| entry.parent)
    }

    /// The id of `gfid` if the kernel refers to it.
    pub(crate) fn find(&self, gfid: Gfid) -> Option<NodeId> {
        let shard = self.shard(gfid.ino());
        let id = shard.id(gfid);
        shard.nodes.get(&id).filter(|entry| entry.gfid == gfid).map(|_| NodeId(id))
    }

    /// Counts one reply that tells the kernel of `gfid`; call it before the reply leaves.
    ///
    /// `parent` is where it was found, for a directory.
    pub(crate) fn remember(&self, attr: &Attr, parent: Option<Gfid>) -> NodeId {
        let gfid = attr.gfid;
        if gfid == Gfid::ROOT {
            return NodeId::ROOT;
        }
        let mut shard = self.shard(gfid.ino());
        let mut id = shard.id(gfid);
        if id <= NodeId::ROOT.0 || shard.nodes.get(&id).is_some_and(|entry| entry.gfid != gfid) {
            id = shard.free_id(gfid.ino());
            shard.odd.insert(gfid, id);
        }
        let entry = shard.nodes.entry(id).or_insert(Node { gfid, parent, lookups: 0, content_last: false });
        entry.lookups += 1;
        entry.parent = parent.or(entry.parent);
        entry.content_last = attr.modified == attr.changed;
        NodeId(id)
    }

    /// Notes what a look at the root said of its times; no name leads to it, so it is never remembered.
    pub(crate) fn looked_at_root(&self, attr: &Attr) {
        if let Some(entry) = self.shard(NodeId::ROOT.0).nodes.get_mut(&NodeId::ROOT.0) {
            entry.content_last = attr.modified == attr.changed;
        }
    }

    /// Whether the time of content of `node` was not set by hand, as far as the last look tells.
    pub(crate) fn content_last(&self, node: NodeId) -> bool {
        self.shard(node.0).nodes.get(&node.0).is_some_and(|entry| entry.content_last)
    }

    /// Notes that a directory is in `parent` now; nothing for a file or for what the kernel does not refer to.
    pub(crate) fn moved(&self, gfid: Gfid, parent: Gfid) {
        let mut shard = self.shard(gfid.ino());
        let id = shard.id(gfid);
        if let Some(entry) = shard.nodes.get_mut(&id).filter(|entry| entry.gfid == gfid && entry.parent.is_some()) {
            entry.parent = Some(parent);
        }
    }

    /// Takes `lookups` back; answers the object when the kernel no longer refers to it.
    pub(crate) fn forget(&self, node: NodeId, lookups: u64) -> Option<Gfid> {
        if node == NodeId::ROOT {
            return None;
        }
        let mut shard = self.shard(node.0);
        let entry = shard.nodes.get_mut(&node.0)?;
        entry.lookups = entry.lookups.saturating_sub(lookups);
        if entry.lookups > 0 {
            return None;
        }
        let gfid = shard.nodes.remove(&node.0)?.gfid;
        shard.odd.remove(&gfid);
        *shard.forgetting.entry(gfid).or_default() += 1;
        Some(gfid)
    }

    /// Notes that the graph has answered one `forget` of `gfid`, which [`Nodes::forget`] answered.
    pub(crate) fn forgotten(&self, gfid: Gfid) {
        let mut shard = self.shard(gfid.ino());
        if let Some(count) = shard.forgetting.get_mut(&gfid) {
            *count -= 1;
            if *count == 0 {
                shard.forgetting.remove(&gfid);
            }
        }
    }

    /// Whether a `forget` of `gfid` is on its way: the graph may believe that nothing is kept of an object that the
    /// kernel was told of again.
    pub(crate) fn is_forgetting(&self, gfid: Gfid) -> bool {
        self.shard(gfid.ino()).forgetting.contains_key(&gfid)
    }

    /// Everything that the kernel refers to, the root included.
    pub(crate) fn all(&self) -> Vec<(NodeId, Gfid)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().nodes.iter().map(|(id, entry)| (NodeId(*id), entry.gfid)));
        }
        all
    }

    /// How many objects the kernel refers to, the root included.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().nodes.len()).sum()
    }

    /// Forgets everything but the root: the mount has ended and no FORGET comes.
    pub(crate) fn clear(&self) -> Vec<Gfid> {
        let mut gone = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let shard = &mut *shard;
            for (_, entry) in shard.nodes.extract_if(|id, _| *id != NodeId::ROOT.0) {
                *shard.forgetting.entry(entry.gfid).or_default() += 1;
                gone.push(entry.gfid);
            }
            shard.odd.clear();
        }
        gone
    }

    fn shard(&self, id: u64) -> MutexGuard<'_, Shard> {
        self.shards[(id % SHARDS) as usize].lock()
    }
}

impl Shard {
    /// The id that `gfid` has, or would have if nobody else had it.
    fn id(&self, gfid: Gfid) -> u64 {
        self.odd.get(&gfid).copied().unwrap_or_else(|| gfid.ino())
    }

    /// A random id that nobody has, in the shard of `like`.
    fn free_id(&self, like: u64) -> u64 {
        let mut random = || Gfid::random().ino() / SHARDS * SHARDS + like % SHARDS;
        std::iter::repeat_with(&mut random)
            .find(|id| *id > NodeId::ROOT.0 && !self.nodes.contains_key(id))
            .expect("one of 2^58 ids is free")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_testkit::samples;

    fn remember(nodes: &Nodes, gfid: Gfid, parent: Option<Gfid>) -> NodeId {
        nodes.remember(&samples::attr(gfid), parent)
    }

    fn gfid(high: u64, low: u64) -> Gfid {
        Gfid::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    fn odd(nodes: &Nodes) -> usize {
        nodes.shards.iter().map(|shard| shard.lock().odd.len()).sum()
    }

    #[test]
    fn the_root_is_node_1_and_cannot_be_forgotten() {
        let nodes = Nodes::new();
        assert_eq!(nodes.gfid(NodeId::ROOT), Some(Gfid::ROOT));
        assert_eq!(remember(&nodes, Gfid::ROOT, None), NodeId::ROOT);
        assert_eq!(nodes.forget(NodeId::ROOT, 99), None);
        assert_eq!((nodes.len(), nodes.parent(NodeId::ROOT)), (1, Some(Gfid::ROOT)));
    }

    #[test]
    fn an_object_goes_when_every_lookup_was_taken_back_and_comes_again_with_its_id() {
        let nodes = Nodes::new();
        let file = gfid(1, 77);
        let node = remember(&nodes, file, None);
        assert_eq!(remember(&nodes, file, None), node);
        assert_eq!(nodes.forget(node, 1), None);
        assert_eq!(nodes.gfid(node), Some(file));
        assert_eq!(nodes.forget(node, 1), Some(file));
        assert_eq!((nodes.gfid(node), nodes.find(file)), (None, None));
        assert_eq!(remember(&nodes, file, None), node);
    }

    #[test]
    fn objects_that_share_the_low_half_or_have_a_reserved_one_get_ids_of_their_own() {
        let nodes = Nodes::new();
        let objects = [gfid(1, 77), gfid(2, 77), gfid(3, 77), gfid(4, 0), gfid(5, 1)];
        let ids: Vec<NodeId> = objects.iter().map(|object| remember(&nodes, *object, None)).collect();
        for (object, id) in objects.iter().zip(&ids) {
            assert_eq!(nodes.gfid(*id), Some(*object));
            assert_eq!(nodes.find(*object), Some(*id));
            assert_eq!(remember(&nodes, *object, None), *id);
            assert!(id.0 > 1);
        }
        // The first is gone: the second must keep the id that the kernel knows it by.
        assert_eq!(nodes.forget(ids[0], 2), Some(objects[0]));
        assert_eq!(remember(&nodes, objects[1], None), ids[1]);
        assert!(nodes.is_forgetting(objects[0]) && !nodes.is_forgetting(objects[1]));
        nodes.forgotten(objects[0]);
        assert!(!nodes.is_forgetting(objects[0]));
        for (object, id) in objects.iter().zip(&ids).skip(1) {
            nodes.forget(*id, 9);
            assert_eq!((nodes.gfid(*id), nodes.find(*object)), (None, None));
        }
        assert_eq!((nodes.len(), odd(&nodes)), (1, 0));
    }

    #[test]
    fn a_directory_remembers_where_it_was_last_found() {
        let nodes = Nodes::new();
        let (directory, above) = (gfid(1, 7), gfid(1, 8));
        let node = remember(&nodes, directory, Some(Gfid::ROOT));
        assert_eq!(nodes.parent(node), Some(Gfid::ROOT));
        remember(&nodes, directory, Some(above));
        remember(&nodes, directory, None);
        assert_eq!(nodes.parent(node), Some(above));
        nodes.moved(directory, Gfid::ROOT);
        assert_eq!(nodes.parent(node), Some(Gfid::ROOT));
    }

    #[test]
    fn lookups_and_forgets_of_many_threads_end_at_nothing() {
        let nodes = Nodes::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        let object = gfid(round % 3, 1 + round % 5);
                        let node = remember(&nodes, object, None);
                        assert_eq!(nodes.gfid(node), Some(object));
                        nodes.forget(node, 1);
                    }
                });
            }
        });
        assert_eq!((nodes.len(), odd(&nodes)), (1, 0));
    }

    #[test]
    fn the_end_of_the_mount_forgets_everything_but_the_root() {
        let nodes = Nodes::new();
        let mut objects = vec![gfid(1, 77), gfid(2, 77), gfid(3, 9)];
        for object in &objects {
            remember(&nodes, *object, None);
        }
        let mut gone = nodes.clear();
        gone.sort_unstable();
        objects.sort_unstable();
        assert_eq!((gone, nodes.len()), (objects, 1));
        assert_eq!(nodes.all(), [(NodeId::ROOT, Gfid::ROOT)]);
    }
}
