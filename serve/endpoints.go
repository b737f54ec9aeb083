package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"headroom/attention"
	"headroom/decode"
)

// idName is the name of a token that has no text of its own.
func idName(id int32) string { return "token_id:" + strconv.Itoa(int(id)) }

// guard refuses clients without a key, and requests beyond the most that may run at once. Without keys, a server on the
// loopback answers only requests that call it by a name of the loopback, so that a web page cannot reach it through a
// name that its owner resolves to this machine (DNS rebinding).
func (s *Server) guard(next http.HandlerFunc) http.HandlerFunc {
	var keys [][sha256.Size]byte
	for _, k := range s.config.Keys {
		keys = append(keys, sha256.Sum256([]byte(k)))
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if len(keys) > 0 && !knows(keys, bearer(r)) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.refuse(w, errKey)
			return
		}
		if len(keys) == 0 && rebound(r) {
			s.refuse(w, &refusal{status: http.StatusForbidden,
				reason: fmt.Sprintf("this server is called localhost or by its address, not %.80q", r.Host)})
			return
		}
		defer s.inFlight.Add(-1)
		if s.inFlight.Add(1) > int64(s.config.Requests) {
			s.refuse(w, errBusy)
			return
		}
		next(w, r)
	}
}

var errKey = &refusal{
	status: http.StatusUnauthorized, reason: "this server needs an API key: send Authorization: Bearer KEY",
	code: "invalid_api_key",
}

func bearer(r *http.Request) string {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return key
}

// rebound says that a request came to the loopback but calls it by another name.
func rebound(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host != "localhost" && net.ParseIP(strings.Trim(host, "[]")) == nil
}

// knows compares keys in constant time, so that the time does not tell how much of a key is right.
func knows(keys [][sha256.Size]byte, key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for _, k := range keys {
		found |= subtle.ConstantTimeCompare(sum[:], k[:])
	}
	return found == 1
}

// clientOf is the client that a request is counted for: its key, or else the address that it comes from.
func clientOf(r *http.Request) string {
	if key := bearer(r); key != "" {
		return "key " + key
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		s.refuse(w, errDraining)
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// A modelCard is the model's entry in /v1/models.
type modelCard struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	Owner   string `json:"owned_by"`
	Context int    `json:"max_model_len"`
}

func (s *Server) card() modelCard {
	return modelCard{s.config.Name, "model", s.started.Unix(), "headroom", s.context}
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []modelCard{s.card()}})
}

func (s *Server) oneModel(w http.ResponseWriter, r *http.Request) {
	if name := r.PathValue("name"); name != s.config.Name {
		s.refuse(w, s.noModel(name))
		return
	}
	s.writeJSON(w, http.StatusOK, s.card())
}

// body reads a small request into v.
func (s *Server) body(w http.ResponseWriter, r *http.Request, v any) error {
	_, err := s.read(w, r, func(body io.Reader) (*order, error) { return nil, decodeJSON(body, v) })
	return err
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Prompt   *string          `json:"prompt"`
		Messages []requestMessage `json:"messages"`
		Begin    *bool            `json:"add_special_tokens"`
	}
	err := s.body(w, r, &q)
	var ids []int32
	switch {
	case err != nil:
	case (q.Prompt == nil) == (q.Messages == nil):
		err = bad("prompt", "give one of prompt, a text, and messages, a chat")
	case q.Messages != nil:
		ids, err = s.chatTokens(q.Messages, q.Begin)
	default:
		if ids, err = s.words.encode(*q.Prompt, begins(q.Begin, true)); err != nil {
			err = bad("prompt", "prompt %s", err)
		}
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	if ids == nil {
		ids = []int32{}
	}
	s.writeJSON(w, http.StatusOK, map[string]any{"tokens": ids, "count": len(ids), "max_model_len": s.context})
}

func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Tokens []*whole `json:"tokens"`
	}
	err := s.body(w, r, &q)
	var ids []int32
	for i, id := range q.Tokens {
		switch {
		case err != nil:
		case id == nil:
			err = bad("tokens", "position %d holds null, where it must hold a token from 0 to %d", i, s.vocab-1)
		case *id < 0 || int(*id) >= s.vocab:
			err = bad("tokens", "token %d at position %d is none of the model's, which go from 0 to %d", *id, i, s.vocab-1)
		default:
			ids = append(ids, int32(*id))
		}
	}
	if err == nil && q.Tokens == nil {
		err = bad("tokens", "tokens are missing: give a list of ids")
	}
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.writeJSON(w, http.StatusOK, map[string]string{"prompt": string(s.words.text(ids))})
}

// tokenizerInfo has the tokens that a client needs to begin documents and to stop. It has no chat_template, because
// clients take one for Jinja.
func (s *Server) tokenizerInfo(w http.ResponseWriter, _ *http.Request) {
	info := map[string]any{"vocab_size": s.vocab, "model_max_length": s.context}
	if ends := s.words.ends; len(ends) > 0 {
		info["eos_token"], info["eos_token_id"], info["eos_token_ids"] = string(s.words.piece(ends[0])), ends[0], ends
	}
	if begin := s.words.begin; len(begin) > 0 {
		info["bos_token"], info["bos_token_id"] = string(s.words.piece(begin[0])), begin[0]
	}
	s.writeJSON(w, http.StatusOK, info)
}

// status answers with the number of sequences in the engine and the pages of its cache.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	s.writeJSON(w, http.StatusOK, struct {
		Model   string              `json:"model"`
		Context int                 `json:"context"`
		Page    int                 `json:"page_tokens"`
		Cache   attention.CacheType `json:"cache_type"`
		Bytes   int                 `json:"cache_bytes_per_token"`
		*state
	}{s.config.Name, s.context, decode.PageTokens, s.memory.Type, s.memory.TokenBytes, s.scheduler.state.Load()})
}
