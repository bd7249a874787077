//! Verbs that need nothing that runs: volfile, explain, xlator, completion, version.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::needs;
use crate::world::World;

const UI: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ui");

/// A world for verbs that mount nothing.
fn world() -> World {
    World::of(Vec::new(), env!("CARGO_BIN_EXE_brickwork").into())
}

#[test]
fn findings_look_as_in_the_golden_files_and_set_the_exit_code() {
    let world = world();
    for name in ["gluster-01-mistyped-option", "gluster-05-itself", "gluster-08-missing-subvolume"] {
        let golden = std::fs::read_to_string(format!("{UI}/{name}.stderr")).expect("the golden file");
        let output = Command::new(env!("CARGO_BIN_EXE_brickwork"))
            .args(["volfile", "check", &format!("{name}.vol")])
            .current_dir(UI)
            .output()
            .expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(without_time(&said), without_time(&golden), "{name}");
        assert_eq!(output.status.code(), Some(78), "{name}");
    }
    assert!(world.run(["volfile", "check", "test.vol"]).ok().starts_with("test.vol: 0 errors"));
}

/// The report without how long it took.
fn without_time(report: &str) -> String {
    let lines = report.lines().map(|line| match line.split_once(" lines, ") {
        Some((head, tail)) => format!("{head} lines{}", tail.split_once(" ms").map_or("", |(_, rest)| rest)),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn warnings_fail_only_where_they_are_denied() {
    let world = world();
    let outdated = std::fs::read_to_string(format!("{UI}/option-outdated.vol")).expect("read");
    let golden = std::fs::read_to_string(format!("{UI}/option-outdated.stderr")).expect("read");
    assert!(golden.starts_with("warning") && !golden.contains("error["), "the fixture has a warning and no error");
    world.write("outdated.vol", &outdated);
    assert_eq!(world.run(["volfile", "check", "outdated.vol"]).code, Some(0));
    assert_eq!(world.run(["volfile", "check", "--deny-warnings", "outdated.vol"]).code, Some(78));
}

#[test]
fn a_suggestion_is_applied_and_the_file_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let world = world();
    let path = world.write("mistyped.vol", &world.volfile("    option resreve 1%\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
    assert_eq!(world.run(["volfile", "check", "mistyped.vol"]).code, Some(78));
    world.run(["volfile", "check", "--fix", "mistyped.vol"]).ok();
    assert_eq!(std::fs::read_to_string(&path).expect("read"), world.volfile("    option reserve 1%\n"));
    assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o777, 0o640);
}

#[test]
fn fmt_names_what_it_changed_and_changes_nothing_twice() {
    let world = world();
    let path = world.write("ugly.vol", "volume a\ntype   debug/null # why\nend-volume");
    assert_eq!(world.run(["volfile", "fmt", "--check", "ugly.vol", "test.vol"]).stdout, "ugly.vol\n");
    assert_eq!(world.run(["volfile", "fmt", "ugly.vol", "test.vol"]).ok(), "ugly.vol\n");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "volume a\n    type debug/null # why\nend-volume\n");
    assert_eq!(world.run(["volfile", "fmt", "--check", "ugly.vol"]).ok(), "");
}

#[test]
fn every_code_is_listed_and_explained() {
    let world = world();
    let list = world.run(["explain"]).ok();
    let codes: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(codes.contains(&"V0001") && codes.contains(&"E0101") && codes.len() > 40, "{codes:?}");
    for code in codes {
        let page = world.run(["explain", code]).ok();
        assert!(page.starts_with(&format!("{code}: ")) && page.lines().count() > 3, "{page}");
    }
}

#[test]
fn every_type_is_listed_and_explained() {
    let world = world();
    let list = world.run(["xlator", "list"]).ok();
    assert!(list.contains("storage/posix") && list.contains("debug/null"), "{list}");
    for kind in list.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
        assert!(world.run(["xlator", "info", kind]).ok().starts_with(&format!("{kind}\n")));
    }
    assert!(world.run(["xlator", "info", "storage/posix"]).ok().contains("option directory\n"));
}

#[test]
fn completion_scripts_are_made_for_every_shell_and_bash_takes_its_own() {
    let world = world();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.run(["completion", shell]).ok().contains("volfile"), "{shell}");
    }
    if needs("bash") {
        let script = world.write("completion", &world.run(["completion", "bash"]).ok());
        let words = "COMP_WORDS=(brickwork vo); COMP_CWORD=1; _brickwork brickwork vo brickwork; echo ${COMPREPLY[@]}";
        let bash =
            Command::new("bash").arg("-c").arg(format!("source {}; {words}", script.display())).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&bash.stdout).trim(), "volfile", "{bash:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child =
        world().command().arg("explain").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_help_of_mount_lists_every_option_of_a_mount() {
    let help = world().run(["mount", "--help"]).ok();
    for option in ["allow-other", "readers", "direct-io", "waiters-max"] {
        assert!(help.contains(&format!("\n  {option}: ")), "{option} is not in {help}");
    }
}

/// The indented lines of a page.
fn code(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(path).expect("the page");
    text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

#[test]
fn the_readme_works_as_it_stands() {
    let Some(world) = World::new() else { return };
    let here = |line: &str| {
        let line = line.replace("cargo run --release -- ", "brickwork ");
        line.replace("/srv/brick", &world.path("brick").display().to_string())
            .replace("/mnt/volume", &world.path("mnt").display().to_string())
    };
    let lines: Vec<String> = code("README.md").iter().map(|line| here(line)).collect();
    let start = lines.iter().position(|line| line.starts_with("volume ")).expect("a volfile");
    let end = lines.iter().rposition(|line| line == "end-volume").expect("a volfile");
    world.write("single.vol", &(lines[start..=end].join("\n") + "\n"));
    assert!(lines.iter().any(|line| line == "cargo install --profile dist --path ."), "the reader gets the command");
    // The page itself makes the folders.
    for folder in ["brick", "mnt"] {
        std::fs::remove_dir(world.path(folder)).expect("an empty folder");
    }
    let ours = |line: &&String| line.starts_with("brickwork ") || line.starts_with("mkdir ");
    let commands: Vec<&String> = lines.iter().filter(ours).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for line in commands {
        // Alone it serves until Ctrl-C; that is tested with `dev`.
        if line != "brickwork dev" {
            world.shell(line).ok();
        }
    }
}

#[test]
fn every_command_in_volfiles_and_pages_is_a_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let world = world();
    let mut pages: Vec<_> = ["README.md", "ARCHITECTURE.md"].iter().map(|page| root.join(page)).collect();
    for folder in ["docs", "volfiles"] {
        pages.extend(std::fs::read_dir(root.join(folder)).expect(folder).map(|entry| entry.expect("entry").path()));
    }
    let mut seen = 0;
    for page in pages.iter().filter(|page| page.is_file()) {
        let text = std::fs::read_to_string(page).expect("read");
        for line in text.lines().map(|line| line.trim_start_matches(['#', ' ', '$'])) {
            let verb = line.strip_prefix("brickwork ").and_then(|rest| rest.split_whitespace().next());
            let Some(verb) = verb.filter(|verb| verb.chars().all(|c| c.is_ascii_lowercase())) else { continue };
            seen += 1;
            world.run([verb, "--help"]).ok();
        }
    }
    assert!(seen > 0, "the documentation shows commands");
}
