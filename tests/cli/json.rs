//! `--json` of every verb: one document with `apiVersion`, `kind` and `items`.

use serde_json::Value;

use crate::world::{Done, World};

#[track_caller]
fn document(done: Done, kind: &str, fields: &[&str]) -> Value {
    let document = done.json();
    assert_eq!(document["apiVersion"], "brickwork/v1", "{document}");
    assert_eq!(document["kind"], kind, "{document}");
    assert!(document["generatedAt"].as_str().is_some_and(|time| time.ends_with('Z')), "{document}");
    let items = document["items"].as_array().expect("items");
    assert!(!items.is_empty(), "{document}");
    for field in fields {
        assert!(items.iter().all(|item| item.get(field).is_some()), "no `{field}` in an item of {document}");
    }
    document
}

#[test]
fn verbs_that_need_nothing_that_runs() {
    let world = World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into());
    let run = |words: &[&str]| world.run(words.iter().chain(&["--json"]));
    document(run(&["version"]), "Version", &["name", "version"]);
    document(run(&["xlator", "list"]), "XlatorTypeList", &["type", "about", "options"]);
    document(run(&["xlator", "info", "debug/null"]), "XlatorType", &["type", "about", "options"]);
    document(run(&["explain"]), "ExplanationList", &["code", "title", "text"]);
    document(run(&["explain", "E0101"]), "ExplanationList", &["code", "title", "text"]);
    document(run(&["completion", "fish"]), "CompletionScript", &["shell", "script"]);
    world.write("bad.vol", &world.volfile("    option resreve 1%\n"));
    let found = run(&["volfile", "check", "bad.vol", "test.vol"]);
    assert_eq!(found.code, Some(78));
    let found = document(found, "VolfileFindingList", &["code", "severity", "message", "file", "line", "column"]);
    assert_eq!(found["files"][0]["errors"], 1, "{found}");
    assert_eq!(found["files"][1]["errors"], 0, "{found}");
    world.write("ugly.vol", "volume a\ntype debug/null\nend-volume");
    document(run(&["volfile", "fmt", "ugly.vol"]), "ChangedVolfileList", &["file"]);
}

#[test]
fn verbs_about_what_runs() {
    let Some(world) = World::new() else { return };
    let run = |words: &[&str]| world.run(words.iter().chain(&["--json"]));
    document(world.mount(&["--json"]), "MountList", &["path", "instance", "pid"]);
    std::fs::write(world.path("mnt/f"), "x").expect("write");
    let status =
        document(run(&["status"]), "StatusList", &["instance", "pid", "mounts", "bricks", "problems", "capacity"]);
    assert!(status["items"][0]["capacity"]["totalBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
    let graph = document(run(&["graph", "show"]), "Graph", &["name", "type", "options", "children", "status"]);
    assert_eq!(graph["graph"]["generation"], 1);
    assert!(graph["items"][0]["status"]["calls"].as_u64().is_some_and(|calls| calls > 0), "{graph}");
    let live = document(run(&["graph", "show", "test", "--live"]), "Graph", &["live"]);
    assert!(live["items"][0]["live"]["operationsPerSecond"].is_number(), "{live}");
    document(run(&["graph", "show", "--format", "json"]), "Graph", &["name"]);
    document(run(&["dump"]), "Dump", &["status", "graph", "reloads", "process"]);
    world.run(["dump", "-o", "dump.json"]).ok();
    let written: Value = serde_json::from_slice(&std::fs::read(world.path("dump.json")).expect("read")).expect("JSON");
    assert_eq!(written["kind"], "Dump");
    document(run(&["umount", "mnt"]), "UnmountList", &["path"]);
    document(run(&["brick", "detach", "brick"]), "DetachedBrickList", &["path", "removed"]);
}

#[test]
fn the_text_forms_say_the_same() {
    let Some(world) = World::new() else { return };
    world.mount(&[]).ok();
    let status = world.run(["status"]).ok();
    assert!(status.starts_with("test   healthy   1 mount · ") && status.contains("BRICK"), "{status}");
    let tree = world.run(["graph", "show"]).ok();
    assert!(tree.contains("mount/fuse") && tree.contains("└─ debug/io-stats    stats"), "{tree}");
    assert!(world.run(["graph", "show", "--live"]).ok().contains("op/s"));
    assert!(world.run(["graph", "show", "--format", "dot"]).ok().contains("\"stats\" -> \"posix\";"));
    world.umount("mnt");
}
