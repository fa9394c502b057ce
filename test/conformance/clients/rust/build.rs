//! The version of aws-config that Cargo chose, for the client to say.
fn main() {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"aws-config\"");
    let version = lines.nth(1).unwrap_or("").replace(['"', ' '], "").replace("version=", "");
    println!("cargo:rustc-env=AWS_CONFIG_VERSION={version}");
    println!("cargo:rerun-if-changed=Cargo.lock");
}
