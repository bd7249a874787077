//! Text to tree and back: what is printed is read as what was printed.

use brickwork_graph::diagnostic::{Diagnostics, Look, Summary};
use brickwork_graph::volfile::{
    Comment, Entry, OPTIONS_PER_VOLUME_MAX, Parsed, SUBVOLUMES_PER_VOLUME_MAX, Source, Sources, Span, Statement,
    VOLUMES_MAX, Volfile, Volume, Word, parse, print,
};
use proptest::prelude::*;
use std::path::PathBuf;

fn read(text: &str) -> Parsed {
    let mut sources = Sources::new();
    let id = sources.add(Source::new("test.vol", text));
    parse(&sources, id)
}

fn clean(text: &str) -> Volfile {
    let parsed = read(text);
    let messages: Vec<_> = parsed.problems.iter().map(|p| &p.message).collect();
    assert!(messages.is_empty(), "{messages:?} in\n{text}");
    parsed.tree
}

fn messages(text: &str) -> Vec<String> {
    let mut sources = Sources::new();
    let id = sources.add(Source::new("t", text));
    let parsed = parse(&sources, id);
    parsed.problems.iter().map(|p| p.one_line(&sources)).collect()
}

fn fixtures() -> Vec<(PathBuf, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/gluster");
    let mut out = Vec::new();
    for folder in std::fs::read_dir(root).unwrap() {
        let Ok(files) = std::fs::read_dir(folder.unwrap().path()) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "vol") {
                let text = std::fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    assert!(out.len() >= 15, "the fixtures are not where they should be");
    out
}

#[test]
fn volfiles_generated_by_gluster_parse_and_print_as_they_are() {
    for (path, text) in fixtures() {
        assert_eq!(print(&clean(&text)), text, "{}", path.display());
    }
}

#[test]
fn a_whole_volume_may_stand_on_one_line() {
    let file = clean("volume a type b/c option k v subvolumes x y option l w end-volume");
    let volume = &file.volumes[0];
    assert_eq!(volume.kind().unwrap().text, "b/c");
    assert_eq!(volume.options().count(), 2);
    let names: Vec<_> = volume.subvolumes().map(|w| w.text.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
}

#[test]
fn lines_that_end_in_carriage_return_and_newline_say_the_same() {
    let text = "# a\nvolume a # b\n    type b/c\n    option k \"v w\"\n    subvolumes x\n        y\nend-volume\n";
    assert_eq!(clean(&text.replace('\n', "\r\n")), clean(text));
}

#[test]
fn subvolumes_may_span_lines_with_comments_between() {
    let file = clean("volume a\ntype b/c\nsubvolumes x # the first\n  y\n  # and\n  z # last\nend-volume\n");
    let names: Vec<_> = file.volumes[0].subvolumes().map(|w| w.text.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
    assert_eq!(
        print(&file),
        "volume a\n    type b/c\n    # the first\n    # and\n    subvolumes x y z # last\nend-volume\n"
    );
}

#[test]
fn a_volume_with_only_a_type_is_a_volume() {
    assert_eq!(clean("volume a\ntype debug/null\nend-volume").volumes.len(), 1);
}

#[test]
fn comments_keep_their_places_when_printed() {
    let text = "# a drawing\n#  of the graph\n\n# the disk\nvolume a # first\n    # why\n    type storage/posix # kind\n\n    option directory \"/a b\"\n    # before the end\nend-volume # done\n\n# the end\n";
    assert_eq!(print(&clean(text)), text);
}

#[test]
fn an_empty_file_and_one_of_comments_are_refused() {
    assert_eq!(messages(""), ["t: the file is empty; a volfile has at least one volume"]);
    assert_eq!(messages("# x\n"), ["t: the file has only comments; a volfile has at least one volume"]);
}

#[test]
fn each_mistake_gives_one_message() {
    let text = "volume a\n typ storage/posix\n option directory /x\n end-volum\n\nVolume b\n type c/d\n transport-type tcp\n option x\n subvolumes a\nend-volume\n";
    assert_eq!(
        messages(text),
        [
            "t:2:2: unknown keyword `typ`",
            "t:4:2: unknown keyword `end-volum`",
            "t:6:1: keywords are lower case: `Volume`",
            "t:8:2: `transport-type` begins no statement",
            "t:9:9: option `x` has no value",
        ]
    );
}

fn volume_text(name: &str, body: &str) -> String {
    format!("volume {name} type debug/null {body} end-volume\n")
}

#[test]
fn as_many_volumes_as_the_limit_pass_and_one_more_does_not() {
    let mut text: String = (0..VOLUMES_MAX).map(|i| volume_text(&format!("v{i}"), "")).collect();
    assert_eq!(clean(&text).volumes.len(), VOLUMES_MAX);
    text.push_str(&volume_text("more", ""));
    assert_eq!(messages(&text), ["t:4097:1: more than 4096 volumes in a file"]);
}

#[test]
fn as_many_options_and_subvolumes_as_the_limit_pass_and_one_more_does_not() {
    let options = " option k v".repeat(OPTIONS_PER_VOLUME_MAX);
    let names = " v".repeat(SUBVOLUMES_PER_VOLUME_MAX);
    clean(&volume_text("a", &format!("{options} subvolumes {names}")));
    let found = messages(&volume_text("a", &format!("{options} option k v subvolumes {names} v")));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("more than 1024 options in a volume"));
    assert!(found[1].ends_with("more than 4096 subvolumes of a volume"));
}

// ---- properties ----

fn word() -> impl Strategy<Value = Word> {
    let text = prop_oneof![
        4 => "[a-z][a-z0-9/.*-]{0,12}",
        1 => prop::sample::select(vec!["volume", "type", "option", "subvolumes", "end-volume", "subvolumeS", "Volume", "#x"])
            .prop_map(str::to_owned),
        1 => "[ -~äß\t]{1,8}",
    ];
    text.prop_map(|text| Word { text, span: Span::default() })
}

fn comment() -> impl Strategy<Value = Comment> {
    ("#[ -_a-z{-~ä]{0,10}", any::<bool>()).prop_map(|(text, after_blank_line)| Comment {
        text: text.trim_end().to_owned(),
        span: Span::default(),
        after_blank_line,
    })
}

fn entry<T: std::fmt::Debug>(node: impl Strategy<Value = T>) -> impl Strategy<Value = Entry<T>> {
    (node, prop::collection::vec(comment(), 0..2), prop::option::weighted(0.2, comment()), any::<bool>()).prop_map(
        |(node, leading, trailing, after_blank_line)| Entry {
            node,
            span: Span::default(),
            leading,
            trailing: trailing.map(|c| Comment { after_blank_line: false, ..c }),
            after_blank_line,
        },
    )
}

fn option() -> impl Strategy<Value = Statement> {
    (word(), word()).prop_map(|(key, value)| Statement::Option { key, value })
}

fn volume() -> impl Strategy<Value = Volume> {
    (
        entry(word()),
        entry(word().prop_map(Statement::Type)),
        prop::collection::vec(entry(option()), 0..3),
        prop::option::of(entry(prop::collection::vec(word(), 1..4).prop_map(Statement::Subvolumes))),
        prop::collection::vec(entry(option()), 0..2),
        entry(Just(())),
    )
        .prop_map(|(head, kind, before, subvolumes, after, end)| Volume {
            head,
            body: std::iter::once(kind).chain(before).chain(subvolumes).chain(after).collect(),
            end,
        })
}

fn volfile() -> impl Strategy<Value = Volfile> {
    (prop::collection::vec(volume(), 1..4), prop::collection::vec(comment(), 0..2))
        .prop_map(|(volumes, closing)| Volfile { volumes, closing })
}

fn summary() -> Summary {
    Summary { xlators: 0, lines: 0, elapsed: None }
}

proptest! {
    // A failure prints its seed and its smallest input; nothing is written beside the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_as_what_was_printed(file in volfile()) {
        // Empty lines in a few places carry no meaning and are settled by the first reading.
        let settled = clean(&print(&file));
        let text = print(&settled);
        let again = clean(&text);
        prop_assert_eq!(&again, &settled);
        prop_assert_eq!(print(&again), text);
        prop_assert_eq!(strip(file), strip(settled));
    }

    #[test]
    fn any_bytes_are_read_and_reported_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&bytes);
    }

    #[test]
    fn any_heap_of_tokens_is_read_and_reported_without_a_panic(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "volume", "type", "option", "subvolumes", "end-volume", "Volume", "optoin", "a", "b/c", "\"", "\"x y\"",
            "`", "\\", "#", "\n", " ", "password", "ä", "\u{feff}", "\0", "\r\n", "option password x",
        ]), 0..60),
        glue in any::<bool>(),
    ) {
        survives(pieces.join(if glue { "" } else { " " }).as_bytes());
    }
}

/// The tree without what empty lines say.
fn strip(mut file: Volfile) -> Volfile {
    fn comments(list: &mut [Comment]) {
        list.iter_mut().for_each(|c| c.after_blank_line = false);
    }
    fn entry<T>(entry: &mut Entry<T>) {
        comments(&mut entry.leading);
        entry.after_blank_line = false;
    }
    for volume in &mut file.volumes {
        entry(&mut volume.head);
        volume.body.iter_mut().for_each(entry);
        entry(&mut volume.end);
    }
    comments(&mut file.closing);
    file
}

fn survives(bytes: &[u8]) {
    let mut sources = Sources::new();
    let id = sources.add(Source::from_bytes("fuzz.vol", bytes));
    let parsed = parse(&sources, id);
    let mut found = Diagnostics::new();
    for problem in parsed.problems {
        found.push(problem);
    }
    let text = found.render(&sources, Look::default(), summary());
    assert_eq!(text.is_empty(), found.is_empty());
    found.to_json(&sources, summary());
    if found.is_empty() {
        assert_eq!(clean(&print(&parsed.tree)), parsed.tree);
    }
}
