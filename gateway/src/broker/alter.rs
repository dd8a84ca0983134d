//! What changes of a topic that is there: its settings, and how many partitions it has.
//!
//! A topic is one fact, so each change replaces it whole: it is durable before anybody acts on it or is told of it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    AppendRequest, Broker, MAX_PARTITIONS_PER_TOPIC, SettingKind, Topic, TopicError, TopicSetting,
    append::AppendError, broker::Core, catalog::Draft, settings,
};

/// A change of a topic's settings.
#[derive(Clone, Debug)]
pub enum SettingsEdit {
    /// These and no others.
    Replace(BTreeMap<String, String>),
    /// One after the other; what is not named stays.
    Each(Vec<SettingEdit>),
}

/// A change of one setting.
#[derive(Clone, Debug)]
pub struct SettingEdit {
    /// Its name.
    pub name: String,
    /// What to do.
    pub operation: SettingOperation,
}

/// What to do with a setting.
#[derive(Clone, Debug)]
pub enum SettingOperation {
    /// Give it this value.
    Set(String),
    /// Leave it to the default.
    Unset,
    /// Add what of this list it does not have.
    Append(String),
    /// Take this list out of it.
    Subtract(String),
}

impl Broker {
    /// Changes the settings of a topic; durable, and acted on, when this returns.
    ///
    /// What was begun is finished even if the caller stops waiting.
    pub async fn alter_topic(
        &self,
        name: &str,
        edit: SettingsEdit,
    ) -> Result<Arc<Topic>, TopicError> {
        let core = Arc::clone(&self.core);
        let name = name.to_owned();
        finished(tokio::spawn(async move {
            let _changing = core.creating.lock().await;
            let topic = core.known(&name)?;
            let settings = core.edited(&topic, edit)?;
            if settings == topic.settings {
                return Ok(topic);
            }
            let topic = Topic { settings, ..Topic::clone(&topic) };
            core.replace_topic(|_| Ok(Draft::of_changed(topic))).await
        }))
        .await
    }

    /// Says whether [`Broker::alter_topic`] would change the topic, without doing it.
    pub fn check_alteration(&self, name: &str, edit: SettingsEdit) -> Result<(), TopicError> {
        let topic = self.core.known(name)?;
        self.core.edited(&topic, edit).map(|_| ())
    }

    /// Gives a topic more partitions, `total` in all; durable when this returns.
    ///
    /// What was begun is finished even if the caller stops waiting.
    pub async fn grow_topic(&self, name: &str, total: u32) -> Result<Arc<Topic>, TopicError> {
        self.check_growth(name, total)?;
        let core = Arc::clone(&self.core);
        let name = name.to_owned();
        finished(tokio::spawn(async move {
            let _changing = core.creating.lock().await;
            let topic = core.known(&name)?;
            check_total(&topic, total)?;
            core.replace_topic(|state| Draft::grown(state, &topic, total)).await
        }))
        .await
    }

    /// Says whether [`Broker::grow_topic`] would give the topic more partitions, without doing it.
    pub fn check_growth(&self, name: &str, total: u32) -> Result<(), TopicError> {
        check_total(&*self.core.known(name)?, total)
    }
}

impl Core {
    fn known(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        let topic = self.catalog().topic(name).cloned();
        topic.ok_or_else(|| TopicError::Unknown(name.to_owned()))
    }

    /// The settings after an edit, all of them legal.
    fn edited(
        &self,
        topic: &Topic,
        edit: SettingsEdit,
    ) -> Result<BTreeMap<String, String>, TopicError> {
        let settings = match edit {
            SettingsEdit::Replace(settings) => settings,
            SettingsEdit::Each(edits) => {
                let mut settings = topic.settings.clone();
                for edit in edits {
                    self.apply(&mut settings, edit)?;
                }
                settings
            }
        };
        settings::check_all(&settings)
            .map_err(|(name, what)| TopicError::IllegalSetting(name, what))?;
        Ok(settings)
    }

    fn apply(
        &self,
        settings: &mut BTreeMap<String, String>,
        edit: SettingEdit,
    ) -> Result<(), TopicError> {
        let SettingEdit { name, operation } = edit;
        let value = match operation {
            SettingOperation::Unset => {
                settings.remove(&name);
                return Ok(());
            }
            SettingOperation::Set(value) => value,
            SettingOperation::Append(more) => {
                let mut parts = self.list_of(settings, &name)?;
                if more.is_empty() {
                    let what = "values must not be empty".to_owned();
                    return Err(TopicError::IllegalSetting(name, what));
                }
                for part in split(&more) {
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
                parts.join(",")
            }
            SettingOperation::Subtract(less) => {
                let less = split(&less);
                let mut parts = self.list_of(settings, &name)?;
                parts.retain(|part| !less.contains(part));
                parts.join(",")
            }
        };
        settings.insert(name, value);
        Ok(())
    }

    /// What a setting that is a list holds now.
    fn list_of(
        &self,
        settings: &BTreeMap<String, String>,
        name: &str,
    ) -> Result<Vec<String>, TopicError> {
        let illegal = |what: &str| TopicError::IllegalSetting(name.to_owned(), what.to_owned());
        let known = TopicSetting::by_name(name).ok_or_else(|| illegal("is not known"))?;
        if !matches!(known.kind, SettingKind::SomeOf(_)) {
            return Err(illegal("is no list: it can only be set or deleted"));
        }
        let value = settings.get(name).cloned();
        Ok(split(&value.unwrap_or_else(|| self.options().topic_defaults.value_of(known))))
    }

    /// Replaces a topic's fact. Whoever calls this holds `creating`.
    async fn replace_topic(
        &self,
        draft: impl FnOnce(&crate::journal::State) -> Result<Draft, TopicError>,
    ) -> Result<Arc<Topic>, TopicError> {
        let (topic, commit) = {
            let mut admission = self.admission();
            let draft = draft(&admission.state)?;
            let request = AppendRequest { batches: Vec::new(), facts: draft.facts };
            // Settings are a way out of full storage: shorter retention, another policy.
            (draft.topic, admission.append_freeing(&self.journal, request)?)
        };
        commit.durable().await.map_err(AppendError::from)?;
        let topic = Arc::new(topic);
        self.tell_cleaner(&topic);
        self.catalog_mut().insert(Arc::clone(&topic));
        Ok(topic)
    }
}

fn check_total(topic: &Topic, total: u32) -> Result<(), TopicError> {
    let there = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if total <= there {
        return Err(TopicError::NoMorePartitions { there, asked: total });
    }
    if total > MAX_PARTITIONS_PER_TOPIC {
        return Err(TopicError::IllegalPartitions(total));
    }
    Ok(())
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The result of a task that goes on although nobody waits for it.
pub(super) async fn finished<T>(
    task: tokio::task::JoinHandle<Result<T, TopicError>>,
) -> Result<T, TopicError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(TopicError::Stopped),
    }
}
