//! Where the programs under test are; `cargo xtask test` says so by environment variables.

use std::path::PathBuf;

/// A binary of this workspace, built under the same profile as the tests.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("HEADWATER_BIN_DIR").map_or_else(beside_the_tests, PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

/// The folder of Apache Kafka's jars.
#[must_use]
pub fn kafka_libs() -> PathBuf {
    path_from("HEADWATER_KAFKA_LIBS", "kafka-libs")
}

/// The folder of what tests/java compiles to.
#[must_use]
pub fn java_classes() -> PathBuf {
    path_from("HEADWATER_JAVA_CLASSES", "java-classes")
}

/// A Python interpreter with the Kafka clients installed.
#[must_use]
pub fn python() -> PathBuf {
    path_from("HEADWATER_PYTHON", "venv/bin/python")
}

/// The folder of the Node clients.
#[must_use]
pub fn node_modules() -> PathBuf {
    path_from("HEADWATER_NODE_MODULES", "node-clients/node_modules")
}

/// The folder of what tests/go compiles to, where there is a Go.
#[must_use]
pub fn go_clients() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADWATER_GO_CLIENTS").map(PathBuf::from);
    assert!(folder.iter().all(|it| it.exists()), "{folder:?} is missing: run `cargo xtask test`");
    folder
}

/// The image of a board.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn board_elf(name: &str) -> PathBuf {
    let path = path_from("HEADWATER_BOARDS", "boards").join(name).with_extension("elf");
    assert!(path.exists(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

fn path_from(variable: &str, below_target: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || beside_the_tests().parent().expect("a profile lies below target").join(below_target),
        PathBuf::from,
    );
    assert!(path.exists(), "{} is missing: run `cargo xtask test`", path.display());
    path
}

/// Test binaries lie in `target/PROFILE/deps`, programs in `target/PROFILE`.
fn beside_the_tests() -> PathBuf {
    let executable = std::env::current_exe().expect("a running test has an executable");
    executable.ancestors().nth(2).expect("target/PROFILE/deps/it").to_owned()
}
