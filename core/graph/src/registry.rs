//! The types of xlators that this process can build.

use brickwork_api::XlatorType;

/// A set of types, looked up by the name that stands in volfiles.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    types: Vec<&'static XlatorType>,
}

impl Registry {
    /// The set of `types`, sorted by name.
    ///
    /// # Panics
    /// If two have one name: a volfile could not tell them apart.
    #[must_use]
    pub fn new(types: impl IntoIterator<Item = &'static XlatorType>) -> Registry {
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_unstable_by_key(|kind| kind.name);
        for pair in types.windows(2) {
            assert_ne!(pair[0].name, pair[1].name, "two xlators of one type");
        }
        Registry { types }
    }

    /// The type called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'static XlatorType> {
        let place = self.types.binary_search_by_key(&name, |kind| kind.name).ok()?;
        Some(self.types[place])
    }

    /// All types, by name.
    pub fn iter(&self) -> impl Iterator<Item = &'static XlatorType> + '_ {
        self.types.iter().copied()
    }
}
