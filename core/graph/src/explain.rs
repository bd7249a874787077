//! `brickwork explain CODE`: a page for each code of a finding.

use crate::diagnostic::Code;

/// The page for a code as a person types it (`V0004`, `v4`), or nothing for what is no code.
pub fn explain(code: &str) -> Option<&'static str> {
    Code::parse(code).map(page)
}

/// The page for `code`. Every code has one: the compiler sees to it.
pub fn page(code: Code) -> &'static str {
    match code {
        Code::UnclosedVolume => include_str!("explain/V0001.txt"),
        Code::DuplicateVolume => include_str!("explain/V0002.txt"),
        Code::UnknownType => include_str!("explain/V0003.txt"),
        Code::UnknownOption => include_str!("explain/V0004.txt"),
        Code::BadValue => include_str!("explain/V0005.txt"),
        Code::MissingOption => include_str!("explain/V0006.txt"),
        Code::UndefinedSubvolume => include_str!("explain/V0007.txt"),
        Code::Cycle => include_str!("explain/V0008.txt"),
        Code::Arity => include_str!("explain/V0009.txt"),
        Code::Unreachable => include_str!("explain/V0010.txt"),
        Code::Deprecated => include_str!("explain/V0011.txt"),
        Code::OrderHazard => include_str!("explain/V0012.txt"),
        Code::SharedDirectory => include_str!("explain/V0013.txt"),
        Code::Secret => include_str!("explain/V0014.txt"),
        Code::Backtick => include_str!("explain/V0015.txt"),
        Code::PluginAbi => include_str!("explain/V0016.txt"),
        Code::DuplicateOption => include_str!("explain/V0017.txt"),
        Code::Syntax => include_str!("explain/V0018.txt"),
        Code::Limit => include_str!("explain/V0019.txt"),
        Code::WithoutEffect => include_str!("explain/V0020.txt"),
        Code::SwitchedOn => include_str!("explain/V0021.txt"),
        Code::CommandLine => include_str!("explain/V0022.txt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_page_of_its_own_that_says_what_why_and_what_gluster_does() {
        for code in Code::ALL {
            let page = page(*code);
            let head = format!("{code}: {}\n", code.title());
            assert!(page.starts_with(&head), "{code} begins with {:?}", page.lines().next());
            assert!(page.contains("GlusterFS"), "{code}");
            assert!(page.lines().count() > 5, "{code}");
            assert!(page.lines().all(|line| line.chars().count() <= 108), "{code}");
        }
    }

    #[test]
    fn no_page_is_orphaned() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explain");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.txt")).collect();
        assert_eq!(files, codes);
    }

    #[test]
    fn a_page_is_found_as_people_ask_for_it() {
        assert_eq!(explain("v4"), Some(page(Code::UnknownOption)));
        assert_eq!(explain("E0001"), None);
    }
}
