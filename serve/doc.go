// Package serve is an HTTP server over the decode engine. It speaks the OpenAI dialect that clients know: completions
// of texts and of token ids, streamed or whole, with log probabilities of the prompt and of what comes, and chat where
// the model has a template.
//
// One goroutine owns the engine (scheduler.go): it takes waiting jobs fairly by client, steps, and puts what came into
// mailboxes without ever waiting for a reader. Handlers parse (request.go), queue jobs and render what comes
// (answer.go). A job whose client has left, or whose time is up, is cancelled between two passes, and its pages are
// free then.
package serve
