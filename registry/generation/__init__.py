"""Generations: planned, queued, run one after the other on their device, watched and cancelled."""

from registry.generation.generator import Generator
from registry.generation.jobs import Event, Generation, Job, Picture
from registry.generation.planning import Preview
from registry.job_states import JobState

__all__ = ["Event", "Generation", "Generator", "Job", "JobState", "Picture", "Preview"]
