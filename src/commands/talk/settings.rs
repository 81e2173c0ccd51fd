//! Asks for what may be left as it is: an empty line leaves it so.

use super::{Instead, TYPED, Talking};
use crate::commands::create_workflow::{read_run_as, read_schedule, read_zone};
use crate::commands::deploy_notebook::default_path;
use crate::commands::provision::who;
use crate::commands::to_databricks;
use crate::credentials::{Wants, account_id, databricks};
use crate::databricks::me::Me;
use crate::databricks::secrets::ScopeName;
use crate::databricks::workspace::NotebookPath;
use crate::failure::{Code, Failure};
use crate::questions::Setting;

impl Talking<'_> {
    /// Asks for these settings, in this order.
    pub(super) async fn settings(&mut self, open: &[Setting]) -> Result<(), Failure> {
        if open.is_empty() {
            return Ok(());
        }
        let me = self.me().await?;
        for setting in open {
            let unscheduled = self.stage.talk.settings.get(&Setting::Schedule) == Some(&None);
            let answer = if *setting == Setting::Zone && unscheduled {
                None
            } else {
                let prompt = self.prompt(*setting, &me)?;
                self.setting(*setting, &prompt).await?
            };
            self.instead.extend(answer.clone().map(|answer| Instead::Flag(setting.flag(), answer)));
            self.stage.talk.settings.insert(*setting, answer);
        }
        Ok(())
    }

    async fn me(&self) -> Result<Me, Failure> {
        let mut wants = Wants::default();
        let identity = databricks(&self.stage.context.environment, &self.stage.vault, &mut wants);
        wants.settle()?;
        let Some(identity) = identity else {
            return Err(Failure::new(Code::Bug, "The Databricks identity is settled and yet missing."));
        };
        who(&to_databricks(&identity, self.stage)?.reader()).await
    }

    fn prompt(&self, setting: Setting, me: &Me) -> Result<String, Failure> {
        Ok(match setting {
            Setting::Scope => {
                "Secret scope for the dbt API key [Enter: dbt-cloud, or the one that the notebook reads]".to_owned()
            }
            Setting::Notebook => {
                let account = account_id(&self.stage.account, &self.pasted, &self.stage.context.environment)?;
                format!("Path of the notebook [Enter: {}]", default_path(me, account.unwrap_or_default())?)
            }
            Setting::Schedule => {
                "Schedule as Quartz cron, such as 0 0 6 * * ? [Enter: none, or the one that the workflow has]"
                    .to_owned()
            }
            Setting::Zone => {
                "Time zone of the schedule, such as Europe/Berlin [Enter: UTC, or the one that the workflow has]"
                    .to_owned()
            }
            Setting::RunAs => {
                format!("Whom the runs act as, by e-mail or application id [Enter: you, {}, or as it is]", me.user_name)
            }
        })
    }

    /// One answer that its flag would take.
    async fn setting(&self, setting: Setting, prompt: &str) -> Result<Option<String>, Failure> {
        loop {
            let typed = self.ask(prompt).await?;
            if typed.is_empty() {
                return Ok(None);
            }
            match self.check(setting, &typed) {
                Ok(()) => return Ok(Some(typed)),
                Err(failure) => self.tell(&failure),
            }
        }
    }

    fn check(&self, setting: Setting, typed: &str) -> Result<(), Failure> {
        let wrong = |why: String| {
            Failure::new(Code::InvalidInput, format!("{TYPED} is \"{typed}\", which cannot be used: {why}."))
        };
        match setting {
            Setting::Scope => typed.parse::<ScopeName>().map(|_| ()).map_err(|bad| wrong(bad.to_string())),
            Setting::Notebook => typed.parse::<NotebookPath>().map(|_| ()).map_err(|bad| wrong(bad.to_string())),
            Setting::Schedule => read_schedule(typed, &TYPED, None, self.stage).map(|_| ()),
            Setting::Zone => read_zone(typed, &TYPED).map(|_| ()),
            Setting::RunAs => read_run_as(typed, &TYPED).map(|_| ()),
        }
    }
}
