//! The manual's page and the check use one table.

use brickwork_graph::compat;

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
