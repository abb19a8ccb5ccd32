// Package plan is the one model of provisioning: what a document of any format
// asks for, as typed steps in the order in which they are applied, each with its
// reason and the place in the document that it comes from, and what is wrong
// with the document. Compilers (package cloudconfig and others) make plans;
// package apply compares them with a machine and carries them out.
//
// A plan is a value: making one touches nothing, and two plans can be compared.
// Left out on purpose: where documents come from, and how a step is done.
package plan
