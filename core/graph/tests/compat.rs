//! The manual's page and the check use one table.

mod common;

use brickwork_graph::compat::{self, TypeRow};
use brickwork_graph::volfile::{Source, Sources, parse};
use std::collections::BTreeSet;

#[test]
fn every_type_and_option_of_the_generated_volfiles_has_its_row() {
    let mut missing = BTreeSet::new();
    for folder in ["tests/data/gluster/fixa", "tests/data/gluster/fixb"] {
        for path in common::files(folder, "vol") {
            let mut sources = Sources::new();
            let id = sources.add(Source::from_bytes("", &std::fs::read(path).unwrap()));
            for volume in parse(&sources, id).tree.volumes {
                let kind = &volume.kind().unwrap().text;
                let Some(row) = TypeRow::find(kind) else {
                    missing.insert(kind.clone());
                    continue;
                };
                for (key, _, _) in volume.options() {
                    let fits = |name: &&&str| match name.split_once('*') {
                        Some((head, tail)) => key.text.starts_with(head) && key.text.ends_with(tail),
                        None => key.text == **name,
                    };
                    let own = row.implemented.iter().find(fits).is_some();
                    let is_listed = own || row.option(&key.text).is_some() || !row.lists_its_options();
                    if !is_listed {
                        missing.insert(format!("{kind} {}", key.text));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_the_table_calls_implemented_is_in_the_types_own_tables() {
    assert_eq!(compat::missing(&common::all()), []);
}

#[test]
fn the_page_in_the_manual_is_the_table_of_the_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gluster-compat.md");
    let right = compat::markdown();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &right).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == right, "{path} is not what the table says; BLESS=1 writes it again");
}
