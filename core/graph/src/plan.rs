//! What a checked volfile asks for, in the order in which it is built.
//!
//! Always true of a plan: children stand before their parents, every index is in range, every type and option was
//! checked, and the root stands on everything that is built.

use brickwork_api::XlatorType;
use brickwork_api::options::OptionMap;

/// A graph to build.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The volumes, bottom up.
    pub volumes: Vec<PlannedVolume>,
    /// The index of the top.
    pub root: usize,
}

/// One volume to build.
#[derive(Clone, Debug)]
pub struct PlannedVolume {
    /// Its name in the volfile.
    pub name: String,
    /// Its type.
    pub kind: &'static XlatorType,
    /// Its options, with those of the command line in place.
    pub options: OptionMap,
    /// The indices of its subvolumes, in the order of the volfile.
    pub children: Vec<usize>,
    /// Where it stands, as `file:line`, for messages.
    pub place: String,
}
