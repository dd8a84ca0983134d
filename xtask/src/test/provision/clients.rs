//! The clients of the matrix: Java's from Maven, Python's, Node's and Go's from their registries, each once per content of
//! what names them. Our own test programs in Java and Go are compiled here too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{on_path, once_per, run};
use crate::workspace;

/// The Go clients need this minor version of Go 1.
const GO_MINOR: u32 = 26;

pub(super) fn provision(quick: bool) -> Result<()> {
    python()?;
    if quick {
        return Ok(());
    }
    kafka_jars()?;
    java()?;
    node()?;
    go()
}

/// Tells the tests where all of it is.
pub(crate) fn test_environment(command: &mut Command) {
    command
        .env("HEADWATER_KAFKA_LIBS", kafka_libs())
        .env("HEADWATER_JAVA_CLASSES", java_classes())
        .env("HEADWATER_PYTHON", environment().join("bin/python"))
        .env("HEADWATER_NODE_MODULES", node_folder().join("node_modules"));
    if go_program().is_some() {
        command.env("HEADWATER_GO_CLIENTS", go_clients());
    }
}

/// Folder of Apache Kafka's jars.
pub(crate) fn kafka_libs() -> PathBuf {
    workspace::target().join("kafka-libs")
}

fn java_classes() -> PathBuf {
    workspace::target().join("java-classes")
}

/// Python's virtual environment.
fn environment() -> PathBuf {
    workspace::target().join("venv")
}

fn node_folder() -> PathBuf {
    workspace::target().join("node-clients")
}

fn go_clients() -> PathBuf {
    workspace::target().join("go-clients")
}

fn tests() -> PathBuf {
    workspace::root().join("tests")
}

/// Apache Kafka from Maven Central, by the pom of the tests.
pub(super) fn kafka_jars() -> Result<()> {
    let pom = tests().join("kafka/pom.xml");
    let libs = kafka_libs();
    once_per(std::slice::from_ref(&pom), &libs.join(".fetched"), || {
        println!("fetching Apache Kafka's jars");
        let mut maven = Command::new("mvn");
        maven.args(["--batch-mode", "--quiet", "--file"]).arg(&pom);
        maven.arg("dependency:copy-dependencies");
        run(maven.arg(format!("-DoutputDirectory={}", libs.display())))
    })
}

/// The test programs that use Apache Kafka's Java clients.
fn java() -> Result<()> {
    let sources = files(&tests().join("java"), "java")?;
    let classes = java_classes();
    once_per(&sources, &classes.join(".compiled"), || {
        println!("compiling the Java tests");
        let mut javac = Command::new("javac");
        // Jars name others in their manifests that are not among them.
        javac.args(["-Xlint:all", "-Xlint:-path", "-Xlint:-classfile", "-Werror", "-cp"]);
        javac.arg(kafka_libs().join("*")).arg("-d").arg(&classes).args(&sources);
        run(&mut javac)
    })
}

/// The Python clients, in a virtual environment of their own.
fn python() -> Result<()> {
    let requirements = tests().join("python/requirements.txt");
    let environment = environment();
    once_per(std::slice::from_ref(&requirements), &environment.join(".fetched"), || {
        println!("fetching the Python clients");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run(Command::new(environment.join("bin/python")).args(pip).arg(&requirements))
    })
}

/// The Node clients, as the lock file has them.
fn node() -> Result<()> {
    let names = ["package.json", "package-lock.json"];
    let sources = names.map(|name| tests().join("node").join(name));
    let folder = node_folder();
    once_per(&sources, &folder.join(".fetched"), || {
        println!("fetching the Node clients");
        for (name, source) in names.iter().zip(&sources) {
            fs::copy(source, folder.join(name))?;
        }
        let npm = ["ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"];
        run(Command::new("npm").current_dir(&folder).args(npm))
    })
}

/// The test programs that use Go clients; Debian's Go may be too old for them.
fn go() -> Result<()> {
    let Some(program) = go_program() else {
        println!("absent: go");
        return Ok(());
    };
    let folder = tests().join("go");
    let mut sources = vec![folder.join("go.mod"), folder.join("go.sum")];
    for client in ["check", "franz", "sarama"] {
        sources.extend(files(&folder.join(client), "go")?);
    }
    let clients = go_clients();
    once_per(&sources, &clients.join(".built"), || {
        println!("building the Go clients");
        let mut build = Command::new(program);
        build.current_dir(&folder).args(["build", "-o"]).arg(&clients);
        run(build.args(["./franz", "./sarama"]))
    })
}

fn go_program() -> Option<PathBuf> {
    let usual = Path::new("/usr/local/go/bin/go");
    let program = if on_path("go") { Path::new("go") } else { usual };
    let output = Command::new(program).args(["env", "GOVERSION"]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    let minor = version.trim().strip_prefix("go1.")?.split('.').next()?;
    (minor.parse::<u32>().ok()? >= GO_MINOR).then(|| program.to_owned())
}

/// Files with that extension, in the order of their names.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder);
    let entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
}
