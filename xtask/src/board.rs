//! Boards: placeholder until the board room lands.
pub(crate) fn build(name: &str) -> anyhow::Result<std::path::PathBuf> {
    anyhow::bail!("{name}")
}
pub(crate) fn size() -> anyhow::Result<()> {
    Ok(())
}
