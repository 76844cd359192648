//! Canaries: cores with one deliberate bug each, which the simulator must find.
//!
//! What is never seen to fail proves nothing. Each feature `canary-…` of the core puts back one of the mistakes that a
//! director can make; the simulator built with it has to break an invariant within [`SEEDS_MAX`] seeds, in a run in which
//! nothing breaks without it: otherwise it would not be the canary that was found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

/// A canary is to be found within so many seeds.
const SEEDS_MAX: u64 = 300;

/// A deliberate bug.
struct Canary {
    feature: &'static str,
    /// What to run it with, where not everything is drawn.
    options: &'static [&'static str],
}

const fn canary(feature: &'static str) -> Canary {
    Canary { feature, options: &[] }
}

const CANARIES: &[Canary] = &[
    canary("canary-sync-not-forwarded"),
    canary("canary-director-always-forwarded"),
    Canary { feature: "canary-weak-not-cleared", options: &["--faults", "none"] },
    canary("canary-lower-ip-not-preferred"),
    canary("canary-user-timestamp-not-compared"),
    canary("canary-users-kept-after-host-remove"),
    canary("canary-lookup-timeout-restarted"),
    canary("canary-host-conflict-by-arrival"),
    Canary { feature: "canary-down-host-not-changed", options: &["--faults", "none"] },
    Canary { feature: "canary-user-killed-too-early", options: &["--faults", "kicks"] },
    Canary { feature: "canary-lookup-during-move", options: &["--faults", "kicks"] },
    // What a director that restarts says is lost only if it said more in its earlier life, and the hosts-hash repairs most of it.
    // In 1.10 its new numbers are higher anyway.
    Canary {
        feature: "canary-restarted-member-not-heard",
        options: &["--faults", "crashes,minors", "--minutes", "10"],
    },
];

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's folder")
}

/// The canaries that a manifest names.
fn features(manifest: &str) -> BTreeSet<String> {
    let path = workspace().join(manifest);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let names = text.lines().filter(|line| line.starts_with("canary-"));
    names.map(|line| line.split_once(" = ").expect("a feature").0.to_owned()).collect()
}

#[test]
fn every_canary_of_the_core_is_listed() {
    let hunted: BTreeSet<String> = CANARIES.iter().map(|canary| canary.feature.to_owned()).collect();
    assert_eq!(hunted.len(), CANARIES.len(), "one is named twice");
    assert_eq!(features("core/Cargo.toml"), hunted);
    assert_eq!(features("sim/Cargo.toml"), hunted);
}

#[test]
fn a_normal_build_has_no_canary() {
    // Both daemons refuse to be compiled with one; here it is seen that nothing asks for one by default.
    const { assert!(!director_core::IS_CANARY) };
    for manifest in ["core/Cargo.toml", "sim/Cargo.toml"] {
        let text = std::fs::read_to_string(workspace().join(manifest)).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("default =")), "{manifest} has default features");
    }
    for manifest in ["Cargo.toml", "runtime-smol/Cargo.toml", "runtime-std/Cargo.toml", "tests/Cargo.toml"] {
        let text = std::fs::read_to_string(workspace().join(manifest)).unwrap();
        assert!(!text.contains("canary-"), "{manifest} names a canary");
    }
}

/// Builds the simulator, around a canary if one is given. Returns the program.
fn build(canary: Option<&str>) -> PathBuf {
    // A target folder of its own: what is built there must not replace the real one, nor wait for who builds that.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canaries");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "canary", "-p", "director-sim"])
        .args(canary.map(|feature| format!("--features={feature}")))
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace())
        .status()
        .expect("cargo starts");
    let name = canary.unwrap_or("normal");
    assert!(status.success(), "{name} does not compile");
    // The next build takes its place.
    let program = target.join(name);
    std::fs::copy(target.join("canary/director-sim"), &program).expect("the program can be copied");
    program
}

/// Runs seeds up to the first that fails.
fn run(program: &Path, seed: u64, seeds: u64, options: &[&str]) -> Output {
    Command::new(program)
        .args(["run", "--seed", &seed.to_string(), "--seeds", &seeds.to_string(), "--fail-fast"])
        .args(options)
        .output()
        .expect("the simulator starts")
}

/// Looks for a seed that fails with the canary and only with it. Returns the first line of its report, which names the
/// seed and the invariant.
fn hunt(canary: &Canary, program: &Path, normal: &Path) -> Result<String, String> {
    let mut first = 1;
    while first <= SEEDS_MAX {
        let output = run(program, first, SEEDS_MAX + 1 - first, canary.options);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = match (output.status.code(), text.lines().next()) {
            (Some(1), Some(line)) => line,
            (Some(0), _) => break,
            (code, _) => return Err(format!("it ended with {code:?}:\n{text}")),
        };
        let seed = line.strip_prefix("seed ").and_then(|rest| rest.split_once(':')?.0.parse().ok());
        let Some(seed) = seed else { return Err(format!("no seed is named:\n{text}")) };
        let without = run(normal, seed, 1, canary.options);
        match without.status.code() {
            Some(0) => return Ok(line.to_owned()),
            Some(1) => first = seed + 1,
            code => return Err(format!("without it seed {seed} ended with {code:?}")),
        }
    }
    Err(format!("nothing broke in {SEEDS_MAX} seeds that does not break without it"))
}

#[test]
#[ignore = "builds the simulator once for each: tests/run does so"]
fn canaries_are_found() {
    let normal = &build(None);
    let missed: Vec<String> = thread::scope(|scope| {
        // One is hunted while the next is built.
        let hunts: Vec<_> = CANARIES
            .iter()
            .map(|canary| {
                let program = build(Some(canary.feature));
                (canary.feature, scope.spawn(move || hunt(canary, &program, normal)))
            })
            .collect();
        let mut missed = Vec::new();
        for (feature, hunt) in hunts {
            match hunt.join().expect("a hunt does not panic") {
                Ok(line) => println!("{feature}: {line}"),
                Err(error) => missed.push(format!("{feature}: {error}")),
            }
        }
        missed
    });
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}
