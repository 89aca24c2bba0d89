/** Servers nobody can say anything about: nothing is found, so the operator's declaration or custom/high stands. Source: acceptance SF-09. */
import type { Classifier, Finding } from '../classifier.ts';

const NOTHING: readonly Finding[] = [];

/** The classifier of type `custom`. Rules of the operator still apply to it. */
export const customClassifier: Classifier = { serverType: 'custom', classify: () => NOTHING };
