//! Prompts for a setting of `setup`'s plan.

use super::{Dialog, TYPED};
use crate::databricks::secrets::ScopeName;
use crate::databricks::workspace::NotebookPath;
use crate::failure::{Code, Failure};
use crate::questions::PlanSetting;
use crate::spec::{parse_compute, read_run_as, read_schedule, read_zone};

impl Dialog<'_> {
    /// Asks for a value that the flag would accept, with `now` as editable text. Empty input restores the default.
    pub(super) async fn setting(&mut self, setting: PlanSetting, now: &str) -> Result<(), Failure> {
        loop {
            let typed = self.ask(setting.label(), now).await?;
            let answer = (!typed.is_empty()).then_some(typed);
            match answer.as_deref().map_or(Ok(()), |typed| self.check(setting, typed)) {
                Ok(()) => {
                    self.ctx.prompts.answers.borrow_mut().settings.insert(setting, answer);
                    return Ok(());
                }
                Err(failure) => self.tell(&failure),
            }
        }
    }

    fn check(&self, setting: PlanSetting, typed: &str) -> Result<(), Failure> {
        let wrong = |why: String| Failure::new(Code::InvalidInput, format!("\"{typed}\" is invalid: {why}"));
        match setting {
            PlanSetting::Scope => typed.parse::<ScopeName>().map(|_| ()).map_err(|bad| wrong(bad.to_string())),
            PlanSetting::Notebook => typed.parse::<NotebookPath>().map(|_| ()).map_err(|bad| wrong(bad.to_string())),
            PlanSetting::Compute => parse_compute(typed, None).map(|_| ()),
            PlanSetting::Schedule => read_schedule(typed, &TYPED, None, self.ctx.context.wall.now()).map(|_| ()),
            PlanSetting::Zone => read_zone(typed).map(|_| ()),
            PlanSetting::RunAs => read_run_as(typed).map(|_| ()),
        }
    }
}
