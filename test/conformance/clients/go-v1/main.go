// The AWS SDK for Go v1, out of support and still in use, with its default chain. Commands on stdin, an answer in JSON on stdout for each.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/credentials"
	"github.com/aws/aws-sdk-go/aws/ec2metadata"
	"github.com/aws/aws-sdk-go/aws/session"
)

func say(answer map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(answer); err != nil {
		os.Exit(1)
	}
}

func main() {
	say(map[string]any{"ready": "aws-sdk-go " + aws.SDKVersion})
	var held *credentials.Credentials
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		say(answer(lines.Text(), &held))
	}
}

func answer(command string, held **credentials.Credentials) map[string]any {
	created, err := session.NewSession()
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	if command == "region" {
		region, err := ec2metadata.New(created).Region()
		if err != nil {
			return map[string]any{"error": err.Error()}
		}
		return map[string]any{"region": region}
	}
	if command == "again" && *held != nil {
		(*held).Expire()
	} else if command != "held" || *held == nil {
		*held = created.Config.Credentials
	}
	keys, err := (*held).Get()
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{"accessKeyId": keys.AccessKeyID, "secretAccessKey": keys.SecretAccessKey, "token": keys.SessionToken}
}
