// Command echo stands for a function or a service in tests: it is ready after
// its first probe, and tells what it was given.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
)

func main() {
	listen := os.Getenv("TANDEM_LISTEN")
	if p := os.Getenv("PORT"); p != "" {
		listen = "127.0.0.1:" + p
	}
	var mu sync.Mutex
	probes, ids := 0, []string{}
	http.HandleFunc("GET /health/readiness", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if probes++; probes == 1 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(os.Environ()) })
	http.HandleFunc("GET /ids", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(w).Encode(ids)
	})
	http.HandleFunc("POST /", func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, r.Header.Get("Ce-Id"))
		fmt.Println("got", r.Header.Get("Ce-Id"))
	})
	fmt.Println("listening on", listen)
	fmt.Println(http.ListenAndServe(listen, nil))
	os.Exit(1)
}
